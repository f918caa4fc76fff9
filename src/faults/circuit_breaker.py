"""The same traceback in run after run: then it is not the runs that are broken."""

import hashlib
import shlex
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from src.common import paths
from src.common.errors import SweepStopped
from src.faults.failure_classes import FailureClass, recorded_class
from src.runs.run_folder import RunFolder

THRESHOLD = 3
"""Different runs with the same traceback, and none done since the first, stop a sweep."""


@dataclass(frozen=True)
class RepeatedFailure:
    """Runs that broke alike, and what they broke with: an exception's name, a traceback's end."""

    kind: str
    last_line: str
    folders: tuple[Path, ...]

    def stopped(self) -> SweepStopped:
        """Why, which runs, and how to go on, in one line."""
        names = ", ".join(path.name for path in self.folders[:THRESHOLD])
        more = len(self.folders) - THRESHOLD
        where = f"--runs {shlex.quote(paths.shown(self.folders[0].parent.parent))}"
        run_id = self.folders[0].name.rpartition("-")[2]
        return SweepStopped(
            f"{len(self.folders)} runs broke with the same traceback, and none was done since: "
            f"{self.last_line} ({names}{f' and {more} more' if more > 0 else ''}); look: "
            f"python -m src.sweep logs {run_id} {where}; to go on: "
            f"python -m src.sweep retry --all --kind {self.kind} {where}, or --retry-failed"
        )


def find_repeated_failure(folders: Iterable[RunFolder]) -> RepeatedFailure | None:
    """The failure that most of a sweep's runs share, where SAME or more do.

    Bugs alone are counted: runs that diverge do so at one place of the code, and a run's want of
    memory or a node's trouble is dealt with by itself.
    """
    runs = list({folder.path: folder for folder in folders}.values())
    last_success = max((_written(run, paths.RESULT, paths.PRUNED) for run in runs), default=0)
    alike: dict[str, list[tuple[Path, dict[str, object]]]] = {}
    for run in runs:
        failure = run.failure() if _written(run, paths.FAILURE) > last_success else None
        if failure and failure.get("fingerprint") and recorded_class(failure) is FailureClass.OTHER:
            alike.setdefault(str(failure["fingerprint"]), []).append((run.path, failure))
    most = max(alike.values(), key=len, default=[])
    if len(most) < THRESHOLD:
        return None
    failure = most[-1][1]
    kind, lines = str(failure["kind"]), str(failure.get("traceback", "")).strip().splitlines()
    return RepeatedFailure(kind, lines[-1] if lines else kind, tuple(path for path, _ in most))


def fingerprint(error: BaseException) -> str:
    """The same for exceptions of one type that were raised along the same lines of code."""
    frames: Sequence[traceback.FrameSummary] = traceback.extract_tb(error.__traceback__)
    steps = [f"{Path(step.filename).name} {step.name} {step.lineno}" for step in frames]
    told = "\n".join([type(error).__qualname__, *steps])
    return hashlib.sha256(told.encode()).hexdigest()[:10]


def _written(run: RunFolder, *names: str) -> int:
    """When the newest of a run's files was written, in nanoseconds; 0 where there is none."""
    newest = 0
    for name in names:
        with suppress(FileNotFoundError):
            newest = max(newest, (run.path / name).stat().st_mtime_ns)
    return newest
