"""The jobs in Slurm's queue, by one call for all of them: no answer means unknown, not gone."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from src.common.paths import ROOT
from src.slurm import client

_FIELDS = {  # with widths, at which values are cut; the name comes last: it may contain a separator
    **{"JobArrayID": 64, "JobID": 16, "State": 24, "RestartCnt": 8, "Reason": 48, "NodeList": 64},
    **{"TimeLeft": 20, "WorkDir": 256, "Name": 128},
}

_STRANDED = (
    "launch failed requeued held"  # Slurm's reason after slurmctld has lost track of a launch
)

JOB_NAME = "cifar10"
"""Prefix of the names of jobs that train sweeps."""


class JobState(StrEnum):
    """The state of a job as far as its runs are concerned."""

    PENDING = "pending"
    ACTIVE = "active"
    ENDED = "ended"


_STATES = {
    JobState.PENDING: "PENDING REQUEUED REQUEUE_HOLD REQUEUE_FED RESV_DEL_HOLD SPECIAL_EXIT",
    JobState.ACTIVE: "CONFIGURING RUNNING SUSPENDED STOPPED SIGNALING RESIZING STAGE_OUT "
    "COMPLETING PREEMPTED",
    JobState.ENDED: "COMPLETED FAILED CANCELLED TIMEOUT DEADLINE NODE_FAIL BOOT_FAIL "
    "OUT_OF_MEMORY REVOKED",
}
STATES = {theirs: ours for ours, names in _STATES.items() for theirs in names.split()}
"""Maps Slurm's job states to ours. An unknown one counts as active."""


@dataclass(frozen=True)
class Job:
    """A job, or one task of a job array."""

    id: str
    """The id that Slurm's commands take: 12, or 12_3 for an array task."""
    raw_id: str
    """Its SLURM_JOB_ID; that of the array for a task that has not started yet."""
    state: JobState
    restarts: int
    reason: str
    """Why it is waiting, in Slurm's words; empty if it is not."""
    node: str
    seconds_left: int | None
    """Seconds until its time limit. None if it has none."""
    work_dir: str
    """The folder it was submitted from."""
    name: str

    @property
    def array(self) -> str:
        """The id of its array, or its own id if it is not an array task."""
        return self.id.partition("_")[0]

    @property
    def is_stranded(self) -> bool:
        """Whether Slurm holds it after a failed launch, until somebody releases it."""
        return self.reason.replace("_", " ").lower() == _STRANDED

    @property
    def is_from_job_script(self) -> bool:
        """Whether a job script of this project started it, by its name: nothing else runs in it."""
        return self.name.startswith(JOB_NAME)

    @property
    def is_ours(self) -> bool:
        """Whether it trains a sweep of this repository, by its name and its folder."""
        return self.is_from_job_script and Path(self.work_dir).resolve().is_relative_to(ROOT)


class Jobs(dict[str, Job]):
    """Jobs, each under `id` and `raw_id`."""

    unreadable: tuple[str, ...] = ()
    """Lines of squeue's answer that could not be read. If there are any, a job that is missing
    here may still be in the queue."""


def jobs(*, timeout: float | None = None, quiet: bool = False) -> Jobs | None:
    """All jobs of this user.

    A job that is missing has left the queue, unless a line of the answer was unreadable. Returns
    None where Slurm is absent, fails, or does not answer within `timeout` seconds
    [client.TIMEOUT_SECONDS]: then nothing is known of any job. quiet: do not print to stderr what
    went wrong.
    """
    if not client.has_squeue():
        return None
    fields = ",".join(f"{name}:{width}|" for name, width in _FIELDS.items())
    command = ("squeue", "--me", "--array", "--noheader", f"--Format={fields}")
    output = client.output_of(*command, timeout=timeout, quiet=quiet)
    if output is None:
        return None
    parsed = {line.strip(): _job(line) for line in output.split("\n") if line.strip()}
    jobs = [job for job in parsed.values() if job]
    # waiting tasks share the raw id of the one that has started: the raw id must map to that one
    started_last = sorted(jobs, key=lambda job: job.state != JobState.PENDING)
    answer = Jobs({job.raw_id: job for job in started_last} | {job.id: job for job in jobs})
    answer.unreadable = tuple(line for line, job in parsed.items() if job is None)
    for line in () if quiet else answer.unreadable:
        print(f"squeue: cannot read the line {line!r}", file=sys.stderr)
    return answer


def distinct(queued: Mapping[str, Job]) -> list[Job]:
    """Each job in the result of `jobs` once."""
    return list({job.id: job for job in queued.values()}.values())


def _job(line: str) -> Job | None:
    """The job in a line of squeue's answer. Returns None if the line cannot be read."""
    cells = [cell.strip() for cell in line.strip().removesuffix("|").split("|", len(_FIELDS) - 1)]
    if len(cells) < len(_FIELDS):
        return None
    id_, raw_id, state, restarts, reason, node, left, folder, name = cells
    if not (id_[:1].isdecimal() and raw_id.isdecimal() and restarts.isdecimal()):
        return None
    ours = STATES.get(state, JobState.ACTIVE)
    why = reason if ours is JobState.PENDING else ""
    return Job(id_, raw_id, ours, int(restarts), why, node, parse_seconds(left), folder, name)


def parse_seconds(text: str) -> int | None:
    """The seconds of 1-02:03:04, 02:03:04 or 03:04; None for what is no time (UNLIMITED)."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
