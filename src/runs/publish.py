"""How a run ends on disk: published with everything it leaves, or with what broke it."""

import platform
import traceback
from typing import Any

import torch

from src.common.errors import Superseded
from src.common.git import git_commit
from src.config import CHECKPOINT_KINDS, RunConfig
from src.faults.circuit_breaker import fingerprint
from src.faults.failure_classes import Cause, cause_of
from src.runs.leases import Claim
from src.runs.run_folder import RunFolder
from src.training import checkpoint
from src.training.device import device_name
from src.training.trainer import Trainer


def publish(trainer: Trainer, folder: RunFolder, claim: Claim) -> dict[str, Any]:
    """Write everything of a finished run; result.json last, which makes it done.

    Of a pruned run only its numbers are kept, apart from results: it is not done.
    Raises Superseded where the run is no longer ours.
    """
    trained, config = trainer.trained, trainer.config
    assert trained
    result = {
        "run_id": config.id,
        **trained.numbers,
        "device": device_name(trainer.data.device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "git_commit": git_commit(),
        "attempt": claim.number,
        **({} if config.parent == "none" else {"parent": config.parent}),
    }
    claim.require()
    if trainer.stop_reason == "pruned":
        folder.write_pruned(result)
        checkpoint.remove(folder.path)
        claim.end("pruned")
        return result
    kept = {"best": CHECKPOINT_KINDS[:1], "all": CHECKPOINT_KINDS, "none": ()}
    for kind in kept[config.keep_checkpoints]:
        claim.require()
        weights = {name: tensor.cpu() for name, tensor in trained.weights[kind].items()}
        folder.write_weights(kind, weights)
    logits = trained.test.logits
    claim.require()
    folder.write_predictions(
        labels=trained.test_labels.to(torch.uint8).cpu().numpy(),
        predictions=logits.argmax(dim=1).to(torch.uint8).cpu().numpy(),
        probabilities=logits.softmax(dim=1).half().cpu().numpy(),
        features=trained.test.features.half().cpu().numpy(),
    )
    claim.require()
    if not folder.write_result(result):
        raise Superseded(f"{folder.path.name} was finished by another process")
    checkpoint.remove(folder.path)
    claim.end("done")
    return result


def fail(config: RunConfig, folder: RunFolder, claim: Claim, error: Exception) -> str:
    """Note what broke a run, unless it is no longer ours; a line about it."""
    try:
        if isinstance(error, Superseded):
            raise error
        claim.require()
    except Superseded as superseded:
        claim.end("superseded")
        return f"{config.name}: {superseded}"
    cause = cause_of(error)
    diverged = cause is Cause.DIVERGED
    kind = "non-finite loss" if diverged else type(error).__name__
    folder.write_failure(
        {
            "cause": cause,
            "kind": kind,
            "message": str(error),
            "retry": not diverged,  # it would diverge again
            "attempt": claim.number,
            "fingerprint": fingerprint(error),
            "traceback": "".join(traceback.format_exception(error)),
        }
    )
    if diverged:
        checkpoint.remove(folder.path)
    claim.end("failed", cause=cause, kind=kind, message=str(error))
    return f"{config.name}: FAILED: {kind}: {error}"
