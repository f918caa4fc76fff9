"""Cancel, signal or change jobs, and find what Slurm writes for them."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from src.slurm import client

_LOG_TIMEOUT_SECONDS = 5.0  # Slurm may have forgotten the job anyway


def cancel(jobs: Iterable[str], *, quiet: bool = False) -> bool:
    """Cancel jobs. Returns whether Slurm accepts that. quiet: do not print why not to stderr."""
    return client.output_of("scancel", *jobs, quiet=quiet) is not None


def signal_batch_script(job: str) -> None:
    """Send the batch script of a job the signal that Slurm sends before its time limit."""
    client.output_of("scancel", "--batch", "--signal=USR1", job, quiet=True)


def change_excluded_nodes(
    job: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> str | None:
    """Change the nodes that a job must not run on, which Slurm allows only while it is waiting.

    Returns the excluded nodes as Slurm is told them, or None if it refuses or does not answer.
    """
    output = client.output_of("scontrol", "--oneliner", "show", "job", job)
    if output is None:  # an update without the present list would drop what is on it
        return None
    listed = re.search(r"\bExcNodeList=(\S+)", output)
    before = [listed[1]] if listed and listed[1] != "(null)" else []
    if remove and before:  # take single nodes out of a range such as n[1-3]
        before = (client.output_of("scontrol", "show", "hostnames", before[0]) or before[0]).split()
    kept = [node for node in before if node not in remove]
    names = ",".join([*kept, *(node for node in add if node not in kept)])
    done = client.output_of("scontrol", "update", f"jobid={job}", f"excnodelist={names}")
    return None if done is None else names


def is_waiting(job: str) -> bool:
    """Whether Slurm says that a job is waiting in the queue."""
    output = client.output_of("scontrol", "--oneliner", "show", "job", job, quiet=True) or ""
    return re.search(r"\bJobState=PENDING\b", output) is not None


def log_file(job: str) -> Path | None:
    """The file that a job's output goes to. Returns None if Slurm does not know the job."""
    words = ("scontrol", "show", "job", job)
    output = client.output_of(*words, timeout=_LOG_TIMEOUT_SECONDS, quiet=True) or ""
    match = re.search(r"^\s*StdOut=(.+)$", output, re.MULTILINE)
    return Path(match[1]) if match else None
