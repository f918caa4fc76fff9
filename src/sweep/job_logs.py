"""Find the log files of Slurm jobs."""

import re
from collections import deque
from pathlib import Path

from src.common.paths import ROOT, submissions_dir
from src.slurm import job_control

_SUBMITTED_FROM = (Path(), ROOT, ROOT / "slurm_cluster")


def find(job: str, runs_dir: Path) -> Path | None:
    """The log of a job, or of the task JOB_TASK of an array. Returns None if it is not found.

    The job scripts write %x-%j.out into the folder of submission, workers of `submit` into that of
    their submission under `runs_dir`; for other jobs Slurm knows it.
    """
    if not re.fullmatch(r"\d+(_\d+)?", job):
        return None
    folders = [*_SUBMITTED_FROM, *submissions_dir(runs_dir).glob("*/logs")]
    logs = {path for folder in folders for path in folder.glob(f"*-{job}.out")}
    if logs:
        return max(logs, key=lambda path: path.stat().st_mtime)
    path = job_control.log_file(job)
    return path if path and path.is_file() else None


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, with the last state of lines that progress bars redraw."""
    with path.open(errors="replace", newline="") as file:
        last = deque(file, lines)
    return "".join(line.rstrip("\r\n").rpartition("\r")[2] + "\n" for line in last)
