"""Circuit breaker: stop a sweep whose runs all fail with the same traceback."""

import hashlib
import shlex
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from src.common import files, paths
from src.common.errors import SweepStopped
from src.faults.failure_classes import MAY_BE_BUGS, recorded_class

THRESHOLD = 3
"""Runs that fail with one traceback, with no success since the first, which open the breaker."""


@dataclass(frozen=True)
class RepeatedFailure:
    """Runs that failed with one traceback: the exception's name and the traceback's last line."""

    kind: str
    last_line: str
    folders: tuple[Path, ...]

    def error(self) -> SweepStopped:
        """One line: what failed, in which runs, and how to look at it and how to go on."""
        names = ", ".join(path.name for path in self.folders[:THRESHOLD])
        more = len(self.folders) - THRESHOLD
        where = f"--runs {shlex.quote(paths.shown(self.folders[0].parent.parent))}"
        run_id = paths.run_id(self.folders[0])
        return SweepStopped(
            f"{len(self.folders)} runs failed with the same traceback, and none was done since: "
            f"{self.last_line} ({names}{f' and {more} more' if more > 0 else ''}); look: "
            f"python -m src.sweep logs {run_id} {where}; to go on: "
            f"python -m src.sweep retry --all --kind {self.kind} {where}, or --retry_failed"
        )


def find_repeated_failure(folders: Iterable[Path]) -> RepeatedFailure | None:
    """The failure that most runs in `folders` share. Returns None if fewer than THRESHOLD do.

    Only what may be a bug counts: runs that diverge do so at one line of code, and a lack of memory
    or a bad node is handled by itself.
    """
    runs = list(dict.fromkeys(folders))
    last_success = max((_written(run, paths.RESULT, paths.PRUNED) for run in runs), default=0)
    groups: dict[str, list[tuple[Path, dict[str, object]]]] = {}
    for run in runs:
        newer = _written(run, paths.FAILURE) > last_success
        failure = files.read_json(run / paths.FAILURE) if newer else None
        if failure and failure.get("fingerprint") and recorded_class(failure) in MAY_BE_BUGS:
            groups.setdefault(str(failure["fingerprint"]), []).append((run, failure))
    largest = max(groups.values(), key=len, default=[])
    if len(largest) < THRESHOLD:
        return None
    failure = largest[-1][1]
    kind, lines = str(failure["kind"]), str(failure.get("traceback", "")).strip().splitlines()
    return RepeatedFailure(kind, lines[-1] if lines else kind, tuple(path for path, _ in largest))


def fingerprint(error: BaseException) -> str:
    """Ten hex digits, equal for exceptions of one type raised along the same lines of code."""
    frames: Sequence[traceback.FrameSummary] = traceback.extract_tb(error.__traceback__)
    steps = [f"{Path(step.filename).name} {step.name} {step.lineno}" for step in frames]
    text = "\n".join([type(error).__qualname__, *steps])
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _written(run: Path, *names: str) -> int:
    """When the newest of these files of a run was written, in nanoseconds; 0 if there is none."""
    newest = 0
    for name in names:
        with suppress(FileNotFoundError):
            newest = max(newest, (run / name).stat().st_mtime_ns)
    return newest
