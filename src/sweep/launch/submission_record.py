"""The record of a submission: <runs>/submissions/<n>/, with all that its workers need.

claim.json is created once, by link(2), by the process that makes submission n; submission.json is
written last. A process plans submission n only after it has read submission n - 1: of two that
submit at once, the second sees what the first has submitted.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from src.common import files, paths, processes
from src.common.errors import UserError
from src.common.git import git_commit
from src.common.model_source import ModelSource, code_of, copy_place, find, model_error
from src.config import RunConfig
from src.slurm import client, job_queue
from src.sweep import sets
from src.sweep.launch.plan import QueuedWorkers

_MAKING_SECONDS = 120.0  # longest making of a submission by a process on another machine
_POLL_SECONDS = 0.2

SubmissionRecord = dict[str, Any]


def latest(runs_dir: Path) -> int:
    """The number of the last submission, or 0. Waits while a submission is being made."""
    folder = paths.submissions_dir(runs_dir)
    give_up = time.monotonic() + _MAKING_SECONDS
    while True:
        number = max((n for n, _ in _numbered(folder)), default=0)
        if not number or not _is_being_made(folder / str(number)):
            return number
        if time.monotonic() > give_up:
            claim = folder / str(number) / paths.CLAIM
            raise UserError(
                f"{paths.shown(claim)}: submission in progress; remove this file if it is not"
            )
        time.sleep(_POLL_SECONDS)


def claim(runs_dir: Path, number: int) -> bool:
    """Claim submission `number` for this process. Returns False if another one has it."""
    folder = paths.submissions_dir(runs_dir) / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    claimed = files.to_json(processes.identity())
    return files.write_once(folder / paths.CLAIM, claimed.encode())


def fill(folder: Path, runs: Sequence[Sequence[RunConfig]], scripts: Mapping[str, str]) -> None:
    """Write what the workers need: set files, a copy of the code, scripts, a folder for logs."""
    sets.write(runs, folder / "sets")
    prepare(folder, [config for configs in runs for config in configs])
    for label, text in scripts.items():
        files.write_text(folder / f"{label}.sh", text)


def prepare(folder: Path, configs: Iterable[RunConfig] = ()) -> None:
    """Copy the code into a folder, with the source of custom architectures; make a folder for logs.

    Raises UserError if such a source has changed since the configs were read.
    """
    (folder / "logs").mkdir(exist_ok=True)
    code = folder / paths.CODE
    _copy_code(code)
    for model_type, digest in dict.fromkeys((c.model_type, c.model_digest) for c in configs):
        if reference := code_of(model_type):
            _copy_model(find(reference), digest, code)
    files.write_text(code / paths.COMMIT, f"{git_commit() or ''}\n")


def _copy_code(folder: Path) -> None:
    """Copy the package without its permissions: the umask decides on those of the copy."""
    for source in sorted((paths.ROOT / "src").rglob("*")):
        hidden = source.name.startswith(paths.TEMPORARY_PREFIX) or source.suffix == ".pyc"
        if source.is_file() and not hidden:
            copy = folder / source.relative_to(paths.ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def _copy_model(source: ModelSource, digest: str | None, code: Path) -> None:
    """Copy the source of a custom architecture to where `find` looks in a copy of the code."""
    if source.digest != digest:
        raise model_error(source.reference, "it was edited while it was submitted; submit it again")
    for name, content in source.files.items():
        copy = code / copy_place(source.reference) / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)


def close(folder: Path, record: Mapping[str, Any]) -> None:
    """Write submission.json, which ends the making of the submission."""
    files.create_json(folder / paths.SUBMISSION, record)


def workers(runs_dir: Path) -> list[QueuedWorkers]:
    """Workers of all submissions that are still queued or running.

    Raises UserError if Slurm does not answer: then neither submitting nor not is right.
    """
    tasks = cache(_queued)  # squeue is called only if it is needed
    return [
        QueuedWorkers(array["name"], count, frozenset(array["runs"]))
        for record in _records(runs_dir)
        for array in record["arrays"]
        if (count := _alive(record, array, tasks))
    ]


def gpus_in_use(runs_dir: Path) -> Counter[str]:
    """How many local workers of all submissions that are running each GPU of this machine has."""
    return Counter(
        gpu
        for record in _records(runs_dir)
        for array in record["arrays"]
        for process, gpu in zip(array.get("processes", ()), array.get("gpus", ()), strict=False)
        if processes.is_running(process)
    )


def _queued() -> Counter[str]:
    """Number of tasks in the queue that will run, by array."""
    jobs = job_queue.jobs(quiet=True)
    if jobs is None:
        raise UserError(f"Slurm does not answer ({client.queue_failure()}): nothing is submitted")
    if jobs.unreadable:
        raise UserError(
            f"squeue: cannot read the line {jobs.unreadable[0]!r}: nothing is submitted, because "
            "workers that are in the queue may be missing from the answer"
        )
    return Counter(job.array for job in job_queue.distinct(jobs) if not job.is_stranded)


def _alive(
    record: SubmissionRecord, array: SubmissionRecord, tasks: Callable[[], Counter[str]]
) -> int:
    if record["executor"] != "slurm":
        return sum(processes.is_running(process) is True for process in array["processes"])
    return tasks()[array["job"]] if record["cluster"] == client.this_cluster() else 0


def _records(runs_dir: Path) -> Iterator[SubmissionRecord]:
    for _, folder in sorted(_numbered(paths.submissions_dir(runs_dir))):
        record = files.read_json(folder / paths.SUBMISSION)
        if record:
            yield record


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    entries = folder.iterdir() if folder.is_dir() else iter(())
    return [(int(p.name), p) for p in entries if p.name.isdecimal() and (p / paths.CLAIM).exists()]


def _is_being_made(folder: Path) -> bool:
    """Whether a process may be making this submission."""
    if paths.SUBMISSION in files.names_in(folder):
        return False
    maker = files.read_json(folder / paths.CLAIM)
    return maker is not None and processes.is_running(maker) is not False
