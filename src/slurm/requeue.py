"""What a job asks of Slurm about itself: to run it again."""

import sys
import time

from src.slurm.command import answer, this_job

_PATIENCE_SECONDS = 300
_PAUSE_SECONDS = 5


def requeue_this_job() -> None:
    """Have Slurm run this job again, unless somebody else has decided on its fate.

    A job that Slurm still calls running was warned, of its time limit or of a preemption, and
    would end here for good. One that is cancelled must stay so; one preempted without grace or
    requeued from outside is back in the queue already.
    """
    job = this_job()
    if job is None:
        return
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < give_up:
        state = answer("squeue", "--noheader", "--format=%T", f"--jobs={job}")
        if state is not None and state.strip() != "RUNNING":
            print(f"job {job} is left as it is: {state.strip() or 'gone'}", file=sys.stderr)
            return
        if state is not None and answer("scontrol", "requeue", job) is not None:
            print(f"job {job} is requeued", file=sys.stderr)
            return
        time.sleep(_PAUSE_SECONDS)
    print(f"job {job} could not be requeued: submit it again to go on", file=sys.stderr)
