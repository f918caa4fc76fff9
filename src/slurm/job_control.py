"""Cancel or signal jobs, and find what Slurm writes for them."""

import re
from collections.abc import Iterable
from pathlib import Path

from src.slurm import client

_LOG_SECONDS = 5.0  # Slurm may have forgotten the job anyway


def cancel(jobs: Iterable[str], *, quiet: bool = False) -> bool:
    """Cancel jobs. Returns whether Slurm accepts that. quiet: do not print why not to stderr."""
    return client.answer("scancel", *jobs, quiet=quiet) is not None


def send_warning(job: str) -> None:
    """Send the batch script of a job the signal that Slurm sends before its time limit."""
    client.answer("scancel", "--batch", "--signal=USR1", job, quiet=True)


def log_file(job: str) -> Path | None:
    """The file that a job's output goes to. Returns None if Slurm does not know the job."""
    words = ("scontrol", "show", "job", job)
    output = client.answer(*words, seconds=_LOG_SECONDS, quiet=True) or ""
    named = re.search(r"^\s*StdOut=(.+)$", output, re.MULTILINE)
    return Path(named[1]) if named else None
