"""Requeue the job that this process runs in."""

import re
import signal
import sys
import time
from collections.abc import Sequence

from src.slurm.client import answer, this_job

_PATIENCE_SECONDS = 300
_PAUSE_SECONDS = 5
_TRIES = 3  # within the time that Slurm gives a requeued job to end


def requeue_this_job(exclude: Sequence[str] = ()) -> None:
    """Requeue this job, unless it was cancelled or is back in the queue already.

    exclude: nodes that it should not run on again, added to those that it excluded before. Only a
    job that Slurm still calls RUNNING is requeued: it was warned of its time limit or of a
    preemption, and would end here for good. A cancelled one must stay cancelled; one that was
    preempted without grace, or requeued from outside, is in the queue already.
    """
    job = this_job()
    if job is None:
        return
    if exclude:  # Slurm sends SIGTERM at the requeue, after which the nodes are set
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < give_up:
        state = answer("squeue", "--noheader", "--format=%T", f"--jobs={job}")
        if state is not None and state.strip() != "RUNNING":
            print(f"job {job} is left as it is: {state.strip() or 'gone'}", file=sys.stderr)
            return
        if state is not None and answer("scontrol", "requeue", job) is not None:
            print(f"job {job} is requeued", file=sys.stderr)
            if exclude:
                _exclude(job, exclude)
            return
        time.sleep(_PAUSE_SECONDS)
    print(f"job {job} could not be requeued: submit it again to go on", file=sys.stderr)


def _exclude(job: str, nodes: Sequence[str]) -> None:
    """Set the excluded nodes of a job, which Slurm allows only while the job is waiting."""
    output = answer("scontrol", "--oneliner", "show", "job", job, quiet=True) or ""
    before = re.search(r"\bExcNodeList=(\S+)", output)
    already = [before[1]] if before and before[1] != "(null)" else []
    names = ",".join([*already, *(node for node in nodes if node not in already)])
    for _ in range(_TRIES):
        if answer("scontrol", "update", f"jobid={job}", f"excnodelist={names}") is not None:
            print(f"job {job} will not run on {names}", file=sys.stderr)
            return
        time.sleep(_PAUSE_SECONDS)
