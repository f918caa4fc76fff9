"""What a job asks of Slurm about itself: to run it again."""

import re
import signal
import sys
import time
from collections.abc import Sequence

from src.slurm.client import answer, this_job

_PATIENCE_SECONDS = 300
_PAUSE_SECONDS = 5
_TRIES = 3  # within the time that Slurm leaves a requeued job to end


def requeue_this_job(exclude: Sequence[str] = ()) -> None:
    """Have Slurm run this job again, unless somebody else has decided on its fate.

    exclude: nodes that it is not to run on again, besides those that it was not to run on anyway.
    A job that Slurm still calls running was warned, of its time limit or of a preemption, and
    would end here for good. One that is cancelled must stay so; one preempted without grace or
    requeued from outside is back in the queue already.
    """
    job = this_job()
    if job is None:
        return
    if exclude:  # which is said after the requeue, that comes with a SIGTERM
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
    """Only of a job that waits can it be said where it is not to run."""
    told = answer("scontrol", "--oneliner", "show", "job", job, quiet=True) or ""
    before = re.search(r"\bExcNodeList=(\S+)", told)
    already = [before[1]] if before and before[1] != "(null)" else []
    names = ",".join([*already, *(node for node in nodes if node not in already)])
    for _ in range(_TRIES):
        if answer("scontrol", "update", f"jobid={job}", f"excnodelist={names}") is not None:
            print(f"job {job} will not run on {names}", file=sys.stderr)
            return
        time.sleep(_PAUSE_SECONDS)
