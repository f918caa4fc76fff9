"""The runs that a call of `run` has to train, each leased before it is trained."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.common import files
from src.common.temporary_files import remove_abandoned_files
from src.config import RunConfig
from src.faults.circuit_breaker import RepeatedFailure, find_repeated_failure
from src.runs import leases
from src.runs.outcome import NOT_TRAINED_HERE
from src.runs.run_folder import RunFolder

_ABANDONED_SECONDS = 60.0  # age at which a half-written file of an earlier owner is removed


@dataclass(frozen=True)
class RetryPolicy:
    """Which failed runs are trained again."""

    retries: int | None = None
    """Skip a run of which more than this many attempts have failed. None: no limit."""
    retry_failed: bool = False
    """Train every failed run again, those that diverged and those past `retries` too."""
    keep_pruned: bool = False
    """Leave pruned runs as they are. Otherwise they are trained to their end."""


@dataclass(frozen=True, eq=False)
class PendingRun:
    """A run that is to be trained."""

    number: int
    """Its position in the queue, from 1."""
    config: RunConfig
    folder: RunFolder
    earlier_failure: dict[str, Any] | None
    """Its failure.json when the queue was made."""


@dataclass(frozen=True, eq=False)
class LeasedRun:
    """A run that this process owns until it ends the lease."""

    run: PendingRun
    lease: leases.Lease


class RunQueue:
    """Hands out the unfinished runs of `configs`, each leased to this process.

    Configs with one id are one run. A run that another process holds is set aside, and handed
    out later if that process stops without finishing it.
    """

    def __init__(
        self,
        configs: Sequence[RunConfig],
        runs_dir: Path,
        policy: RetryPolicy = RetryPolicy(),
    ) -> None:
        self.configs, self.policy = configs, policy
        self.on_ended: Callable[[int, str], object] = lambda number, line: None
        """Receives the number of a run that is not trained here after all, and a line about it."""
        self.folders = [RunFolder.of(config, runs_dir) for config in configs]
        self.pending = self._find_pending()
        self._free = deque(self.pending)
        self.left_out: dict[Path, str] = {}
        """Why a run is not trained by this process, by its folder."""
        self._held: list[PendingRun] = []  # by other processes
        self._held_before: list[PendingRun] = []
        self._stalled: Mapping[Path, leases.AttemptRecord] = {}
        self._leased: set[LeasedRun] = set()
        self.progressed = False
        """Whether a run that was released has made progress, as Lease.progressed says."""

    def register(self) -> None:
        """Create every run folder, record the grid cells, and remove what killed writers left."""
        for config, folder in zip(self.configs, self.folders, strict=True):
            folder.register(config)
            folder.remove_leftovers()

    def leave_out(self, why: Callable[[RunConfig], str | None]) -> None:
        """Do not hand out the runs for which `why` gives a reason."""
        for run in list(self._free):
            if reason := why(run.config):
                self._free.remove(run)
                self.on_ended(run.number, self.not_trained_here(run, reason))

    def not_trained_here(self, run: PendingRun, reason: str) -> str:
        """Remember why a run is left to other workers; returns a line about it."""
        self.left_out[run.folder.path] = reason
        return f"{run.config.title}: {NOT_TRAINED_HERE}: {reason}"

    def repeated_failure(self) -> RepeatedFailure | None:
        """The failure that opens the circuit breaker for these runs, if there is one.

        Where failed runs are trained again, only failures since the queue was made count.
        """
        failed_before = [run for run in self.pending if run.earlier_failure]
        old = {
            run.folder.path
            for run in (failed_before if self.policy.retry_failed else ())
            if run.folder.failure() == run.earlier_failure
        }
        return find_repeated_failure(f.path for f in self.folders if f.path not in old)

    def take(self) -> LeasedRun | None:
        """Lease the next run that no other process holds. Returns None if there is none now."""
        while self._free:
            run = self._free.popleft()
            lease = self._lease(run)
            if lease:
                leased = LeasedRun(run, lease)
                self._leased.add(leased)
                return leased
            if self._is_over(run):
                self.on_ended(run.number, f"{run.config.title}: ended by another process")
            else:
                self._held.append(run)
        return None

    def release(self, leased: LeasedRun) -> None:
        """Give up a lease. A run that has neither been published nor failed is interrupted."""
        self._leased.discard(leased)
        self.progressed |= leased.lease.progressed
        leased.lease.end("stopped")

    def release_all(self) -> None:
        """Give up every lease that is left: another process may take those runs over."""
        for leased in list(self._leased):
            try:
                self.release(leased)
            except OSError:  # whoever looks for our process sees that it is gone
                continue

    def wait_for_others(self, stop: Callable[[], bool]) -> bool:
        """Wait until a run that another process holds can be taken over.

        Returns False if all runs are finished, or if live processes hold the rest: the same runs
        as at the last wait.
        """
        if not self._held or self._held == self._held_before:
            for run in self._held:
                self.on_ended(run.number, f"{run.config.title}: being trained by another process")
            return False
        self._stalled = leases.wait_for_stalled([run.folder.path for run in self._held], stop)
        self._held_before, self._held = self._held, []
        self._free.extend(self._held_before)
        return True

    def _find_pending(self) -> list[PendingRun]:
        """What is to be trained, each run once, in the given order."""
        unique = {config.id: (config, folder) for config, folder in self._each()}
        waiting = [
            (config.canonical(), folder, folder.failure())
            for config, folder in unique.values()
            if not self._is_finished(folder) and not self._is_given_up(folder)
        ]
        return [PendingRun(number, *item) for number, item in enumerate(waiting, 1)]

    def _each(self) -> Iterator[tuple[RunConfig, RunFolder]]:
        return zip(self.configs, self.folders, strict=True)

    def _is_given_up(self, folder: RunFolder) -> bool:
        return not self.policy.retry_failed and folder.is_given_up(self.policy.retries)

    def _is_finished(self, folder: RunFolder) -> bool:
        pruned = self.policy.keep_pruned and folder.pruned() is not None
        return pruned or folder.result() is not None

    def _is_over(self, run: PendingRun) -> bool:
        """Whether a run has finished, or failed since the queue was made."""
        folder = run.folder
        files.revalidate(folder.path)  # or what another machine has finished is trained again
        return self._is_finished(folder) or folder.failure() not in (None, run.earlier_failure)

    def _lease(self, run: PendingRun) -> leases.Lease | None:
        """Lease a run. Returns None if it is over, or another process may be training it."""
        if self._is_over(run):
            return None
        path = run.folder.path
        lease = leases.acquire(path, known_dead=self._stalled.get(path))
        if lease and self._is_over(run):  # its last owner finished it since we looked
            lease.end("unneeded")
            return None
        if lease:
            remove_abandoned_files(path, old_seconds=_ABANDONED_SECONDS)
            run.folder.forget_outcome()
        return lease
