"""Asking Slurm, which may be slow or absent: no answer means unknown, never no."""

import os
import subprocess
import sys
import time

ANSWER_SECONDS = 15.0
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


def this_job() -> str | None:
    """How Slurm's commands name the job that we are; None where we are none.

    The last task of an array has the array's own job id, which would name all of its tasks.
    """
    array, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def answer(*command: str, seconds: float | None = None, quiet: bool = False) -> str | None:
    """Standard output of a Slurm command; None where it failed or did not answer in time.

    seconds: how long to wait [ANSWER_SECONDS]. quiet: do not say on stderr why there is none.
    """
    limit = ANSWER_SECONDS if seconds is None else seconds
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        if not quiet:
            print(f"{' '.join(command)}: {' '.join(str(detail).split())}", file=sys.stderr)
        return None
    return done.stdout
