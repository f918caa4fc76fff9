"""python -m src.sweep submit: makes reality match a grid."""

import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from src.common import paths, processes
from src.common.errors import ExitStatus, UserError
from src.common.git import git_commit
from src.common.signals import StopSignal
from src.config import RunConfig
from src.faults.circuit_breaker import find_repeated_failure
from src.runs.run_folder import RunFolder
from src.slurm import client, queue
from src.sweep.command_options import wanted
from src.sweep.launch import local_workers, sbatch
from src.sweep.launch import submission_record as submissions
from src.sweep.launch.plan import QueuedWorkers, WorkerPool, limited, standing, team
from src.sweep.launch.plan_output import show
from src.sweep.launch.submit_options import parser, resources_of, work_words
from src.train import train

ALL = "all"  # the group of those who work on every architecture
_DEFAULT_ARRAY = 1001  # of a cluster that is not configured otherwise


@dataclass(frozen=True)
class Batch:
    """An array to submit, its script and its runs."""

    array: sbatch.Array
    text: str
    team: WorkerPool


def main(arguments: Sequence[str]) -> ExitStatus:
    """Submit workers for what is missing of sets or of a grid."""
    asked = parser().parse(arguments)
    asked.arguments = list(arguments)
    asked.workers = asked.workers or (4 if asked.executor == "slurm" else 1)
    asked.runs = asked.runs.resolve()
    if asked.executor == "slurm" and not asked.dry_run and not shutil.which("sbatch"):
        raise UserError("--executor 'slurm': there is no sbatch here; expected local or inline")
    configs = wanted(asked)
    while True:
        last = submissions.latest(asked.runs)
        teams = _decide(asked, configs)
        busy = [one for one in teams if one.workers]
        if busy and not asked.retry_failed:
            _refuse_the_broken(configs, asked.runs)
        folder = paths.submissions_dir(asked.runs) / str(last + 1)
        written = busy and asked.executor != "inline"
        batches = list(_batches(asked, busy, folder)) if written else []
        if not asked.dry_run:
            _note(teams, asked.runs)
        if asked.dry_run or not busy:
            show(asked, teams, folder, texts={b.array.label: b.text for b in batches})
            return ExitStatus.DONE
        if asked.executor == "inline":
            cells = [cell for one in busy for cell in one.cells]
            return train(cells, asked, asked.sets.resolve().name)
        if submissions.claim(asked.runs, last + 1):
            return _commit(asked, teams, batches, folder)


def _refuse_the_broken(configs: Sequence[RunConfig], runs_dir: Path) -> None:
    """Raise SweepStopped where run after run broke in the same way: more would."""
    if alike := find_repeated_failure(RunFolder.of(config, runs_dir) for config in configs):
        raise alike.stopped()


def _note(teams: Sequence[WorkerPool], runs_dir: Path) -> None:
    """Let folders that need no training know of all grid cells that they answer."""
    for cell in (cell for one in teams for cell in one.standing.unnoted):
        RunFolder.of(cell, runs_dir).register(cell)


def _decide(asked: Namespace, configs: Sequence[RunConfig]) -> list[WorkerPool]:
    """How many workers each group gets. Touches nothing."""
    groups: dict[str, list[RunConfig]] = {}
    for config in configs:
        by_model = asked.executor == "slurm"
        groups.setdefault(config.model_type if by_model else ALL, []).append(config)
    there: list[QueuedWorkers] = submissions.workers(asked.runs)
    judged = {"retries": asked.retries, "retry_failed": asked.retry_failed, "prune": asked.prune}
    stands = [standing(name, runs, asked.runs, **judged) for name, runs in groups.items()]
    teams = [team(stand, asked.workers, there) for stand in stands]
    if asked.executor != "slurm" or not any(one.workers for one in teams):
        return teams
    return _admitted(teams)


def _admitted(teams: Sequence[WorkerPool]) -> list[WorkerPool]:
    """As many workers as Slurm admits now."""
    most = sbatch.most_jobs()
    ours = queue.distinct(queue.jobs(quiet=True) or {})
    free = None if most is None else max(0, most - len(ours))
    if free is None or free >= sum(one.workers for one in teams):
        return list(teams)
    print(f"Slurm admits {most} jobs of ours, now {free} more", file=sys.stderr)
    return limited(teams, free)


def _batches(asked: Namespace, teams: Sequence[WorkerPool], folder: Path) -> Iterator[Batch]:
    """The arrays of a submission, each with its script."""
    largest = sbatch.largest_array() if asked.executor == "slurm" else None
    if asked.executor == "slurm" and largest is None:
        if not asked.dry_run:
            raise UserError("Slurm does not answer (scontrol show config): nothing is submitted")
        print(f"Slurm does not answer; assumed: MaxArraySize {_DEFAULT_ARRAY}", file=sys.stderr)
    words = ["--sets", str(folder / "sets"), "--runs", str(asked.runs), *work_words(asked)]
    resources = resources_of(asked)
    for number, one in enumerate(teams, 1):
        size = largest or _DEFAULT_ARRAY
        for array in sbatch.chunks(one.standing.name, number, one.workers, size):
            work = ["src.sweep", "work", str(number), *words]
            text = sbatch.script(array, resources, folder, Path.cwd(), work)
            yield Batch(array, text, one)


def _commit(
    asked: Namespace, teams: Sequence[WorkerPool], batches: Sequence[Batch], folder: Path
) -> ExitStatus:
    """Do what was decided, and note what came of it, however far it came."""
    stop = StopSignal().install() if asked.executor == "local" else None
    arrays: list[dict[str, Any]] = []
    workers = []
    try:
        runs = {batch.array.number: batch.team.cells for batch in batches}
        texts = {batch.array.label: batch.text for batch in batches}
        submissions.fill(folder, list(runs.values()), texts)
        for batch in batches:
            script = folder / f"{batch.array.label}.sh"
            array = {**_array(batch), "log": sbatch.log(folder, batch.array)}
            if asked.executor == "slurm":
                arrays.append({**array, "job": sbatch.sbatch(script)})
            else:
                started = local_workers.start(script, batch.array.workers, array["log"])
                workers += started
                seen = [processes.identity(one.pid) for one in started]
                arrays.append({**array, "processes": seen})
    finally:
        submissions.close(folder, {**_circumstances(asked, folder), "arrays": arrays})
    show(asked, teams, folder, arrays=arrays)
    return local_workers.wait(workers, stop) if stop else ExitStatus.DONE


def _array(batch: Batch) -> dict[str, Any]:
    array = batch.array
    ids = list(batch.team.standing.todo)
    return {"name": array.name, "set": array.number, "workers": array.workers, "runs": ids}


def _circumstances(asked: Namespace, folder: Path) -> dict[str, Any]:
    on_slurm = asked.executor == "slurm"
    return {
        "submission": int(folder.name),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "executor": asked.executor,
        "cluster": client.this_cluster() if on_slurm else None,
        "host": os.uname().nodename,
        "commit": git_commit(),
        "arguments": asked.arguments,
    }
