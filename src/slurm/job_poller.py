"""Poll Slurm for all jobs at once, every few seconds, to see which are over."""

import threading
import time

from src.slurm import job_queue
from src.slurm.job_queue import Jobs, JobState

_ASK_EVERY_SECONDS = 5.0
_ASK_AGAIN_SECONDS = 60.0  # after no answer: waiting for one delays training
_CLOCKS_DIFFER_SECONDS = 30.0  # at most; munge accepts differences of some minutes


class JobPoller:
    """Caches the answer of squeue for some seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: Jobs | None = None
        self._answered_at = 0.0  # wall clock
        self._ask_at = 0.0  # monotonic clock: not before

    def jobs(self, *, timeout: float | None = None) -> Jobs | None:
        """The result of `job_queue.jobs`, cached for some seconds. timeout: of squeue."""
        with self._lock:
            self._refresh(timeout)
            return self._jobs

    def is_over(self, job: str, restarts: int, since: float) -> bool:
        """Whether a job has left the queue, or was restarted more than `restarts` times.

        since: a time (seconds since the epoch) at which the job was running; an answer from before
        it says nothing about the job. Returns False if it is not known, as where a line of the
        answer could not be read.
        """
        with self._lock:
            asked = self._refresh()
            if self._jobs is None:
                return False
            queued = self._jobs.get(job)
            if queued:
                return queued.state == JobState.ENDED or queued.restarts > restarts
            if self._jobs.unreadable:
                return False
            return asked or since < self._answered_at - _CLOCKS_DIFFER_SECONDS

    def _refresh(self, timeout: float | None = None) -> bool:
        """Call squeue if the cached answer is too old. Returns whether it was called."""
        if time.monotonic() < self._ask_at:
            return False
        self._answered_at = time.time()
        self._jobs = job_queue.jobs(timeout=timeout, quiet=True)
        pause = _ASK_AGAIN_SECONDS if self._jobs is None else _ASK_EVERY_SECONDS
        self._ask_at = time.monotonic() + pause
        return True


shared = JobPoller()
"""The poller of this process."""
