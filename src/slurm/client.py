"""Call Slurm's commands; this job, this node and this cluster."""

import os
import shutil
import socket
import subprocess
import sys
from functools import cache

from src.common.errors import one_line

TIMEOUT_SECONDS = 15.0

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "sinfo")
"""Slurm's commands that a sweep needs."""


def missing_commands() -> list[str]:
    """Those of COMMANDS that are not in PATH."""
    return [name for name in COMMANDS if not shutil.which(name)]


def has_sbatch() -> bool:
    """Whether sbatch is in PATH, so that jobs can be submitted from here."""
    return shutil.which("sbatch") is not None


def has_squeue() -> bool:
    """Whether squeue is in PATH, so that the queue can be read from here."""
    return shutil.which("squeue") is not None


def run(*command: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Call a command of Slurm; names of jobs and folders in its output may be in any encoding.

    Raises OSError if it cannot be called, and TimeoutExpired if it does not answer in time.
    """
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout
    )


def output_of(*command: str, timeout: float | None = None, quiet: bool = False) -> str | None:
    """Standard output of a Slurm command; None where it failed or did not answer in time.

    timeout: in seconds [TIMEOUT_SECONDS]. quiet: do not print to stderr why there is no output,
    which `failure_of` tells afterwards.
    """
    limit = TIMEOUT_SECONDS if timeout is None else timeout
    try:
        done = run(*command, timeout=limit)
    except subprocess.TimeoutExpired:
        reason = f"no answer for {limit:g} seconds"
    except OSError as error:
        reason = error.strerror or str(error)
    else:
        if done.returncode == 0:
            _failures.pop(command[0], None)
            return done.stdout
        reason = reason_of(done)
    _failures[command[0]] = f"{command[0]}: {reason.removeprefix(f'{command[0]}: ')}"
    if not quiet:
        print(f"{' '.join(command)}: {reason}", file=sys.stderr)
    return None


def reason_of(done: subprocess.CompletedProcess[str]) -> str:
    """Why a command failed: what it wrote to stderr, or else to stdout, in one line."""
    written = one_line(done.stderr or "") or one_line(done.stdout or "")
    return written or f"exit status {done.returncode}"


def failure_of(name: str) -> str:
    """Why the last call of a command of Slurm gave no output, in Slurm's words and one line."""
    if shutil.which(name) is None:
        return f"{name} is not in PATH"
    return _failures.get(name, f"{name}: no answer")


def queue_failure() -> str:
    """Why nothing is known of the queue, after that was asked for: `failure_of` squeue."""
    return failure_of("squeue")


def controller_failure() -> str:
    """Why the controller did not tell its settings, after they were asked for."""
    return failure_of("scontrol")


_failures: dict[str, str] = {}
"""Of each command whose last call failed: its name and why."""


def this_job() -> str | None:
    """The id of the current job as Slurm's commands take it. None outside of a job.

    The last task of an array has the array's own job id, which would name all of its tasks.
    """
    array, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def node_name() -> str:
    """The name that Slurm gives this machine, or else its own host name."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def this_cluster() -> str | None:
    """The name of this cluster. Returns None if there is none, or it does not answer."""
    return os.environ.get("SLURM_CLUSTER_NAME") or cluster_config().get("ClusterName")


@cache
def cluster_config() -> dict[str, str]:
    """The settings in `scontrol show config`, by name. Empty if it does not answer."""
    output = output_of("scontrol", "show", "config", quiet=True) or ""
    pairs = (line.partition("=") for line in output.splitlines())
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}
