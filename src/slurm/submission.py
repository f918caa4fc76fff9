"""Submit job scripts to Slurm, within the limits that it sets."""

import os
import pwd
import re
import subprocess
from pathlib import Path

from src.common.errors import UserError, one_line
from src.slurm import client

_SBATCH_SECONDS = 60


def refusal(script: Path) -> str | None:
    """Why Slurm would refuse a script (sbatch --test-only). Returns None if it would not."""
    try:
        done = _sbatch("--test-only", script)
    except subprocess.TimeoutExpired:
        return f"no answer for {_SBATCH_SECONDS} seconds"
    return client.reason_of(done) if done.returncode else None


def submit(script: Path) -> str:
    """Submit a script. Returns the job id. Raises UserError with the message of sbatch."""
    try:
        done = _sbatch("--parsable", script)
    except subprocess.TimeoutExpired:
        raise UserError(f"sbatch {script.name}: no answer for {_SBATCH_SECONDS} seconds") from None
    if done.returncode:
        raise UserError(f"sbatch {script.name}: {client.reason_of(done)}")
    found = re.search(r"^(\d+)(?:;.*)?$", done.stdout.strip(), re.MULTILINE)
    if not found:
        raise UserError(
            f"sbatch {script.name}: expected a job id, it printed {one_line(done.stdout)!r}; look "
            "into squeue --me whether there is a job"
        )
    return found[1]


def _sbatch(option: str, script: Path) -> subprocess.CompletedProcess[str]:
    """Call sbatch. Raises TimeoutExpired if it does not answer in time."""
    return client.run("sbatch", option, str(script), timeout=_SBATCH_SECONDS)


def max_array_size() -> int | None:
    """Largest array size of this cluster. Returns None if Slurm does not answer."""
    output = client.cluster_config().get("MaxArraySize", "")
    return max(1, int(output)) if output.isdecimal() else None


def max_submit_jobs() -> int | None:
    """Jobs that this user may have in the queue. Returns None if Slurm reports no limit."""
    fields = ("--noheader", "--parsable2", "show", "assoc", f"user={_user()}")
    output = client.output_of("sacctmgr", *fields, "format=MaxSubmitJobs", quiet=True) or ""
    limits = [*output.split(), client.cluster_config().get("MaxJobCount", "")]
    return min((int(limit) for limit in limits if limit.isdecimal()), default=None)


def _user() -> str:
    """The name of this user. Empty if the system knows none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""
