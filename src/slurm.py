"""Asking Slurm, which may be slow or absent: no answer means unknown, never no."""

import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache

ANSWER_SECONDS = 15.0
_ASK_EVERY_SECONDS = 5.0
_ASK_AGAIN_SECONDS = 60.0  # after no answer: whoever waits for one may have a run to train
_CLOCKS_DIFFER_SECONDS = 30.0  # of two nodes, at most; munge admits no more than some minutes


@dataclass(frozen=True)
class QueuedJob:
    """A job, or a task of an array, that Slurm has not forgotten about yet."""

    state: str
    restarts: int


def this_job() -> str | None:
    """How Slurm's commands name the job that we are; None where we are none.

    The last task of an array has the array's own job id, which would name all of its tasks.
    """
    array, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def this_cluster() -> str | None:
    """The name of the cluster that we are on; None where there is none or it does not answer."""
    return os.environ.get("SLURM_CLUSTER_NAME") or settings().get("ClusterName")


@cache
def settings() -> dict[str, str]:
    """What `scontrol show config` tells, by name; nothing where it does not answer."""
    told = answer("scontrol", "show", "config", quiet=True) or ""
    pairs = (line.partition("=") for line in told.splitlines())
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def answer(*command: str, seconds: float | None = None, quiet: bool = False) -> str | None:
    """Standard output of a Slurm command; None where it failed or did not answer in time."""
    limit = ANSWER_SECONDS if seconds is None else seconds
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        if not quiet:
            print(f"{' '.join(command)}: {' '.join(str(detail).split())}", file=sys.stderr)
        return None
    return done.stdout


def queue() -> dict[str, QueuedJob] | None:
    """All of our own jobs that are pending, running or ending, by name; None without an answer."""
    if not shutil.which("squeue"):
        return None
    wanted = "--Format=JobArrayID:64,State:32,RestartCnt:16"
    told = answer("squeue", "--noheader", "--array", f"--user={os.getuid()}", wanted, quiet=True)
    if told is None:
        return None
    rows = (line.split() for line in told.splitlines())
    return {row[0]: QueuedJob(row[1], int(row[2])) for row in rows if len(row) == 3}


class Watch:
    """Tells whether jobs are over, from one query for all of them every few seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, QueuedJob] | None = None
        self._told_at = 0.0  # wall clock
        self._ask_at = 0.0  # monotonic clock: not before

    def is_over(self, job: str, restarts: int, since: float) -> bool:
        """Whether a job is gone, or was restarted since it had been so `restarts` times.

        since: when it was at work, in seconds of the wall clock: a queue that was looked at
        before says nothing about it. False where it is not known.
        """
        with self._lock:
            asked = time.monotonic() >= self._ask_at
            if asked:
                self._ask()
            if self._jobs is None:
                return False
            if job in self._jobs:
                return self._jobs[job].restarts > restarts
            return asked or since < self._told_at - _CLOCKS_DIFFER_SECONDS

    def _ask(self) -> None:
        self._told_at = time.time()
        self._jobs = queue()
        pause = _ASK_AGAIN_SECONDS if self._jobs is None else _ASK_EVERY_SECONDS
        self._ask_at = time.monotonic() + pause


watch = Watch()
"""Of this process."""
