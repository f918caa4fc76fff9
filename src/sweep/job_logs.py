"""The log files of jobs, found by the job's id."""

import re
from collections import deque
from pathlib import Path

from src.common.paths import ROOT
from src.slurm import client

_SUBMITTED_FROM = (Path(), ROOT, ROOT / "slurm_cluster")
_SECONDS = 5.0  # to wait for Slurm, which may have forgotten the job anyway


def find(job: str) -> Path | None:
    """The log of the job with this SLURM_JOB_ID; None where it is not found.

    The job scripts write %x-%j.out where they are submitted; of other jobs Slurm is asked.
    """
    if not re.fullmatch(r"\d+(_\d+)?", job):
        return None
    found = {path for folder in _SUBMITTED_FROM for path in folder.glob(f"*-{job}.out")}
    if found:
        return max(found, key=lambda path: path.stat().st_mtime)
    told = client.answer("scontrol", "show", "job", job, seconds=_SECONDS, quiet=True) or ""
    named = re.search(r"^\s*StdOut=(.+)$", told, re.MULTILINE)
    return Path(named[1]) if named and Path(named[1]).is_file() else None


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file; progress bars redraw a line, of which the last state stays."""
    with path.open(errors="replace", newline="") as file:
        last = deque(file, lines)
    return "".join(line.rstrip("\r\n").rpartition("\r")[2] + "\n" for line in last)
