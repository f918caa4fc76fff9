"""How a run ends on disk: its results are published, or its failure is recorded."""

import traceback
from collections.abc import Mapping
from typing import Any

import torch

from src.common.errors import LeaseLost
from src.common.git import git_commit
from src.common.result_values import BEST_VAL_ACCURACY, TEST_ACCURACY, StopReason
from src.config import RunConfig
from src.faults.circuit_breaker import fingerprint
from src.faults.failure_classes import FailureClass, affects_every_run, classify
from src.runs import run_data
from src.runs.leases import Lease
from src.runs.run_folder import RunFolder
from src.training import checkpoint
from src.training.device import device_name, versions
from src.training.group import FinishedRun
from src.training.trainer import Trainer


def publish_or_fail(
    finished: FinishedRun, folder: RunFolder, lease: Lease
) -> tuple[str, Exception | None]:
    """Publish a run, or record why it failed. Returns a line about it, and the error if it failed.

    Raises what is not the run's own fault, such as a full disk: the run is then interrupted.
    """
    error, config = finished.error, finished.trainer.config
    if error is None:
        try:
            return _summary(config, publish(finished.trainer, folder, lease)), None
        except Exception as raised:
            error = lease.cause_of(raised)
            if affects_every_run(error):
                raise
    return record_failure(config, folder, lease, error), error


def publish(trainer: Trainer, folder: RunFolder, lease: Lease) -> dict[str, Any]:
    """Write everything that a finished run leaves. result.json comes last and makes it done.

    A pruned run leaves pruned.json instead, with its numbers so far. Raises LeaseLost if another
    process has taken the run over.
    """
    trained, config = trainer.trained, trainer.config
    assert trained
    result = {
        "run_id": config.id,
        **trained.numbers,
        "device": device_name(trainer.data.device),
        "data_digest": trainer.data.dataset.digest,
        **run_data.to_store(config, trainer.data.dataset.spec),
        "versions": versions(trainer.data.device),
        "git_commit": git_commit(),
        "attempt": lease.number,
        **({} if config.parent == "none" else {"parent": config.parent}),
    }
    lease.ensure_held()
    if trainer.state.stop_reason == StopReason.PRUNED:
        folder.write_pruned(result)
        checkpoint.remove(folder.path)
        lease.end("pruned")
        return result
    for kind in config.kept_weights:
        lease.ensure_held()
        weights = {name: tensor.cpu() for name, tensor in trained.weights[kind].items()}
        folder.write_weights(kind, weights)
    logits = trained.test.logits
    index = torch.uint8 if logits.shape[1] <= 256 else torch.int16  # of a class
    lease.ensure_held()
    folder.write_predictions(
        labels=trained.test_labels.to(index).cpu().numpy(),
        predictions=logits.argmax(dim=1).to(index).cpu().numpy(),
        probabilities=logits.softmax(dim=1).half().cpu().numpy(),
        features=trained.test.features.half().cpu().numpy(),
    )
    # result.json is the last file: whoever sees it may rely on all the others, and a process that
    # is killed before it leaves a run that is resumed from its checkpoint
    lease.ensure_held()
    if not folder.write_result(result):
        raise LeaseLost(f"{folder.path.name} was finished by another process")
    checkpoint.remove(folder.path)
    lease.end("done")
    return result


def record_failure(config: RunConfig, folder: RunFolder, lease: Lease, error: Exception) -> str:
    """Write failure.json, unless another process owns the run by now. Returns a line about it."""
    try:
        if isinstance(error, LeaseLost):
            raise error
        lease.ensure_held()
    except LeaseLost as lost:
        lease.end("superseded")
        return f"{config.title}: {lost}"
    failure_class = classify(error)
    diverged = failure_class is FailureClass.DIVERGED
    kind = "non-finite loss" if diverged else type(error).__name__
    folder.write_failure(
        {
            "cause": failure_class,
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
    lease.end("failed", cause=failure_class, kind=kind, message=str(error))
    return f"{config.title}: FAILED: {kind}: {error}"


def _summary(config: RunConfig, result: Mapping[str, Any]) -> str:
    return (
        f"{config.title}: validation accuracy {result[BEST_VAL_ACCURACY]:.2%}, "
        f"test accuracy {result[TEST_ACCURACY]:.2%} "
        f"({result['epochs_run']} epochs, {result['stop_reason']})"
    )
