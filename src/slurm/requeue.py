"""Requeue the job that this process runs in."""

import signal
import sys
import time

from src.common.errors import Restart
from src.slurm.client import output_of, this_job
from src.slurm.job_control import change_excluded_nodes

_PATIENCE_SECONDS = 300
_PAUSE_SECONDS = 5
_TRIES = 3  # within the time that Slurm gives a requeued job to end

MAX_WITHOUT_PROGRESS = 5
"""Starts in a row without a saved step of training, after which a job does not requeue itself."""


def requeue_this_job(restart: Restart) -> None:
    """Requeue this job, unless it was cancelled, is back in the queue already or gets nowhere.

    Only a job that Slurm still calls RUNNING is requeued: it was warned of its time limit or of a
    preemption, and would end here for good. A cancelled one must stay cancelled; one that was
    preempted without grace, or requeued from outside, is in the queue already.
    """
    job = this_job()
    if job is None:
        return
    if restart.without_progress >= MAX_WITHOUT_PROGRESS:
        print(
            f"job {job} is not requeued: it has started {restart.without_progress} times in a row "
            "without saving a step of training; look at its log, then submit it again",
            file=sys.stderr,
        )
        return
    changes_nodes = restart.exclude or restart.readmit
    if changes_nodes:  # Slurm sends SIGTERM at the requeue, after which the nodes are set
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < give_up:
        state = output_of("squeue", "--noheader", "--format=%T", f"--jobs={job}")
        if state is not None and state.strip() != "RUNNING":
            print(f"job {job} is left as it is: {state.strip() or 'gone'}", file=sys.stderr)
            return
        if state is not None and output_of("scontrol", "requeue", job) is not None:
            print(f"job {job} is requeued", file=sys.stderr)
            if changes_nodes:
                _exclude(job, restart)
            return
        time.sleep(_PAUSE_SECONDS)
    print(f"job {job} could not be requeued: submit it again to go on", file=sys.stderr)


def _exclude(job: str, restart: Restart) -> None:
    """Change the excluded nodes of a job that is about to wait in the queue."""
    for _ in range(_TRIES):
        names = change_excluded_nodes(job, add=restart.exclude, remove=restart.readmit)
        if names is not None:
            where = f"will not run on {names}" if names else "may run on any node"
            print(f"job {job} {where}", file=sys.stderr)
            return
        time.sleep(_PAUSE_SECONDS)
