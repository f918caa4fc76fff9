"""Whether jobs are over: from one query for all of them every few seconds."""

import threading
import time

from src.slurm import job_queue
from src.slurm.job_queue import Job, JobState

_ASK_EVERY_SECONDS = 5.0
_ASK_AGAIN_SECONDS = 60.0  # after no answer: whoever waits for one may have a run to train
_CLOCKS_DIFFER_SECONDS = 30.0  # of two nodes, at most; munge admits no more than some minutes


class JobPoller:
    """Keeps the last answer of Slurm for as long as it is fresh."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] | None = None
        self._told_at = 0.0  # wall clock
        self._ask_at = 0.0  # monotonic clock: not before

    def jobs(self, *, seconds: float | None = None) -> dict[str, Job] | None:
        """All of our jobs, as `queue.jobs` tells, as of some seconds ago at most."""
        with self._lock:
            self._refresh(seconds)
            return self._jobs

    def is_over(self, job: str, restarts: int, since: float) -> bool:
        """Whether a job is gone, or was restarted since it had been so `restarts` times.

        since: when it was at work, in seconds of the wall clock: a queue that was looked at
        before says nothing about it. False where it is not known.
        """
        with self._lock:
            asked = self._refresh()
            if self._jobs is None:
                return False
            found = self._jobs.get(job)
            if found:
                return found.state == JobState.OVER or found.restarts > restarts
            return asked or since < self._told_at - _CLOCKS_DIFFER_SECONDS

    def _refresh(self, seconds: float | None = None) -> bool:
        """Ask, if the last answer is not fresh; whether it was asked."""
        if time.monotonic() < self._ask_at:
            return False
        self._told_at = time.time()
        self._jobs = job_queue.jobs(seconds=seconds, quiet=True)
        pause = _ASK_AGAIN_SECONDS if self._jobs is None else _ASK_EVERY_SECONDS
        self._ask_at = time.monotonic() + pause
        return True


shared = JobPoller()
"""Of this process."""
