"""Find the log files of Slurm jobs."""

import re
from collections import deque
from pathlib import Path

from src.common.paths import ROOT
from src.slurm import job_control

_SUBMITTED_FROM = (Path(), ROOT, ROOT / "slurm_cluster")


def find(job: str) -> Path | None:
    """The log of the job with this SLURM_JOB_ID. Returns None if it is not found.

    Our job scripts write %x-%j.out into the folder of submission; for other jobs Slurm knows it.
    """
    if not re.fullmatch(r"\d+(_\d+)?", job):
        return None
    found = {path for folder in _SUBMITTED_FROM for path in folder.glob(f"*-{job}.out")}
    if found:
        return max(found, key=lambda path: path.stat().st_mtime)
    named = job_control.log_file(job)
    return named if named and named.is_file() else None


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, with the last state of lines that progress bars redraw."""
    with path.open(errors="replace", newline="") as file:
        last = deque(file, lines)
    return "".join(line.rstrip("\r\n").rpartition("\r")[2] + "\n" for line in last)
