"""Failed runs grouped by failure class, with a hint for each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from src.common import files, paths
from src.common.errors import one_line
from src.common.paths import FAILURE
from src.faults.failure_classes import FailureClass, recorded_class
from src.runs.snapshot import Snapshot

_UNREADABLE = "unreadable failure.json"
_HINTS = {
    FailureClass.MEMORY: "a smaller batch size, or a device or jobs with more memory",
    FailureClass.DISK: "free disk space or use --keep_checkpoints none; then start the workers "
    "again",
    FailureClass.NODE: "tried again elsewhere; nodes: python -m src.sweep logs {run_id}",
    FailureClass.CUDA: "a bug, the driver or the GPU; CUDA_LAUNCH_BLOCKING=1 makes the traceback "
    "name the operation: python -m src.sweep logs {run_id}",
    FailureClass.FILE_SYSTEM: "the file system did not recover within five minutes; start the "
    "workers again once it does, unless Slurm has requeued them",
    FailureClass.DIVERGED: "it diverged, and is only tried again after `retry`: a lower learning "
    "rate helps",
}
_LOOK = "look at the traceback: python -m src.sweep logs {run_id}"


@dataclass(frozen=True)
class Failures:
    """Failed runs of the same kind."""

    kind: str
    """A failure class, or the name of the exception."""
    trainings: int
    example: str
    """The folder of one of them."""
    message: str
    """Its message."""
    hint: str


def failures(failed: Iterable[Snapshot]) -> list[Failures]:
    """Group failed runs by kind, the most frequent first."""
    groups: dict[str, list[tuple[Snapshot, dict[str, Any]]]] = {}
    for run in failed:
        failure = files.read_json(run.path / FAILURE) or {}
        groups.setdefault(kind_of(failure), []).append((run, failure))
    grouped = [_group(kind, members) for kind, members in groups.items()]
    return sorted(grouped, key=lambda group: (-group.trainings, group.kind))


def kind_of(failure: dict[str, Any]) -> str:
    """The kind of a recorded failure."""
    if "kind" not in failure:
        return _UNREADABLE
    cause = recorded_class(failure)
    return str(failure["kind"]) if cause is FailureClass.OTHER else cause.value


def _group(kind: str, members: list[tuple[Snapshot, dict[str, Any]]]) -> Failures:
    run, failure = members[0]
    hint = _HINTS.get(recorded_class(failure), _LOOK)
    run_id = paths.run_id(run.path)
    message = one_line(failure.get("message", ""))
    return Failures(kind, len(members), str(run.path), message, hint.format(run_id=run_id))
