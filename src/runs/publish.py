"""How a run ends on disk: published with everything it leaves, or with what broke it."""

import platform
import traceback
from typing import Any

import torch

from src.common.errors import LeaseLost
from src.common.git import git_commit
from src.config import CHECKPOINT_KINDS, RunConfig
from src.faults.circuit_breaker import fingerprint
from src.faults.failure_classes import FailureClass, classify
from src.runs.leases import Lease
from src.runs.run_folder import RunFolder
from src.training import checkpoint
from src.training.device import device_name
from src.training.trainer import Trainer


def publish(trainer: Trainer, folder: RunFolder, lease: Lease) -> dict[str, Any]:
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
        "attempt": lease.number,
        **({} if config.parent == "none" else {"parent": config.parent}),
    }
    lease.require()
    if trainer.stop_reason == "pruned":
        folder.write_pruned(result)
        checkpoint.remove(folder.path)
        lease.end("pruned")
        return result
    kept = {"best": CHECKPOINT_KINDS[:1], "all": CHECKPOINT_KINDS, "none": ()}
    for kind in kept[config.keep_checkpoints]:
        lease.require()
        weights = {name: tensor.cpu() for name, tensor in trained.weights[kind].items()}
        folder.write_weights(kind, weights)
    logits = trained.test.logits
    lease.require()
    folder.write_predictions(
        labels=trained.test_labels.to(torch.uint8).cpu().numpy(),
        predictions=logits.argmax(dim=1).to(torch.uint8).cpu().numpy(),
        probabilities=logits.softmax(dim=1).half().cpu().numpy(),
        features=trained.test.features.half().cpu().numpy(),
    )
    lease.require()
    if not folder.write_result(result):
        raise LeaseLost(f"{folder.path.name} was finished by another process")
    checkpoint.remove(folder.path)
    lease.end("done")
    return result


def fail(config: RunConfig, folder: RunFolder, lease: Lease, error: Exception) -> str:
    """Note what broke a run, unless it is no longer ours; a line about it."""
    try:
        if isinstance(error, LeaseLost):
            raise error
        lease.require()
    except LeaseLost as superseded:
        lease.end("superseded")
        return f"{config.name}: {superseded}"
    cause = classify(error)
    diverged = cause is FailureClass.DIVERGED
    kind = "non-finite loss" if diverged else type(error).__name__
    folder.write_failure(
        {
            "cause": cause,
            "kind": kind,
            "message": str(error),
            "retry": not diverged,  # it would diverge again
            "attempt": lease.number,
            "fingerprint": fingerprint(error),
            "traceback": "".join(traceback.format_exception(error)),
        }
    )
    if diverged:
        checkpoint.remove(folder.path)
    lease.end("failed", cause=cause, kind=kind, message=str(error))
    return f"{config.name}: FAILED: {kind}: {error}"
