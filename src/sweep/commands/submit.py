"""python -m src.sweep submit: start workers for what is missing of sets or of a grid."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from src.common import paths, processes
from src.common.errors import ExitStatus, UserError
from src.common.git import git_commit
from src.common.signals import StopSignal
from src.config import RunConfig
from src.faults.circuit_breaker import find_repeated_failure
from src.runs.model_versions import changes
from src.runs.run_folder import RunFolder
from src.slurm import client, job_queue, submission
from src.sweep.launch import local_workers, sbatch, submit_options
from src.sweep.launch import submission_record as submissions
from src.sweep.launch.plan import (
    WorkerPool,
    distribute_evenly,
    find_pending_runs,
    plan_worker_pool,
)
from src.sweep.launch.plan_output import print_plan
from src.sweep.launch.submit_options import SubmitOptions, work_arguments
from src.sweep.launch.time_limits import time_limits, with_limits
from src.train import train

ALL_MODELS = "all"  # the group of workers that train every architecture
_DEFAULT_MAX_ARRAY = 1001  # MaxArraySize of a cluster that is not configured otherwise


@dataclass(frozen=True)
class JobScript:
    """A job array to submit, its script and its runs."""

    array: sbatch.JobArray
    text: str
    pool: WorkerPool


def main(arguments: Sequence[str]) -> ExitStatus:
    """Plan, print the plan, and carry it out unless it is a dry run."""
    asked = submit_options.parse(arguments)
    runs_dir, training = asked.training.runs_dir, asked.training
    if asked.on_slurm and not asked.dry_run and not client.has_sbatch():
        raise UserError("--executor 'slurm': there is no sbatch here; expected local or inline")
    for line in changes(asked.configs, runs_dir):
        print(line, file=sys.stderr)
    while True:
        latest = submissions.latest(runs_dir)
        pools = _plan(asked)
        to_start = [pool for pool in pools if pool.workers]
        if to_start and not training.retry_failed:
            _check_circuit_breaker(asked.configs, runs_dir)
        options = _with_time_limits(asked, to_start) if to_start else asked
        folder = paths.submissions_dir(runs_dir) / str(latest + 1)
        has_scripts = to_start and options.executor != "inline"
        scripts = list(_scripts(options, to_start, folder)) if has_scripts else []
        if not options.dry_run:
            _register_aliases(pools, runs_dir)
        if options.dry_run or not to_start:
            print_plan(
                options,
                pools,
                folder,
                texts={script.array.label: script.text for script in scripts},
            )
            return ExitStatus.DONE
        if options.executor == "inline":
            configs = [cell for pool in to_start for cell in pool.cells]
            if not options.json:
                return train(configs, training)
            print_plan(options, pools, folder, texts={})
            with redirect_stdout(sys.stderr):
                return train(configs, training)
        if submissions.claim(runs_dir, latest + 1):  # else another process was faster: plan anew
            return _submit(options, pools, scripts, folder)


def _check_circuit_breaker(configs: Sequence[RunConfig], runs_dir: Path) -> None:
    """Raise SweepStopped if run after run failed with the same traceback: more would."""
    folders = (RunFolder.of(config, runs_dir).path for config in configs)
    if failure := find_repeated_failure(folders):
        raise failure.error()


def _register_aliases(pools: Sequence[WorkerPool], runs_dir: Path) -> None:
    """Record in folders that need no training which grid cells they answer."""
    for cell in (cell for pool in pools for cell in pool.pending.unregistered):
        RunFolder.of(cell, runs_dir).register(cell)


def _plan(options: SubmitOptions) -> list[WorkerPool]:
    """How many workers each group gets. Changes nothing."""
    groups: dict[str, list[RunConfig]] = {}
    for config in options.configs:
        groups.setdefault(config.model_name if options.on_slurm else ALL_MODELS, []).append(config)
    training = options.training
    existing = submissions.workers(training.runs_dir)
    pending = [
        find_pending_runs(
            name,
            configs,
            training.runs_dir,
            retries=training.retries,
            retry_failed=training.retry_failed,
            prune=training.prune,
        )
        for name, configs in groups.items()
    ]
    pools = [plan_worker_pool(group, options.workers, existing) for group in pending]
    if not options.on_slurm or not any(pool.workers for pool in pools):
        return pools
    return _within_job_limit(pools)


def _within_job_limit(pools: Sequence[WorkerPool]) -> list[WorkerPool]:
    """The pools with as many workers as Slurm accepts jobs from this user now."""
    limit = submission.max_submit_jobs()
    queued = job_queue.distinct(job_queue.jobs(quiet=True) or {})
    free = None if limit is None else max(0, limit - len(queued))
    if free is None or free >= sum(pool.workers for pool in pools):
        return list(pools)
    print(f"Slurm admits {limit} jobs of this user, now {free} more", file=sys.stderr)
    return distribute_evenly(pools, free)


def _with_time_limits(options: SubmitOptions, pools: Sequence[WorkerPool]) -> SubmitOptions:
    """The options with all time limits; says on stderr which ones --time auto has chosen."""
    if not (options.on_slurm and options.resources.is_time_auto):
        return options
    limits = time_limits(pools, options.resources, options.training.runs_dir)
    for limit in limits:
        print(limit.in_words(), file=sys.stderr)
    return replace(options, resources=with_limits(options.resources, limits))


def _scripts(
    options: SubmitOptions, pools: Sequence[WorkerPool], folder: Path
) -> Iterator[JobScript]:
    """The job arrays of a submission, each with its script."""
    largest = submission.max_array_size() if options.on_slurm else None
    if options.on_slurm and largest is None:
        why = client.controller_failure()
        if not options.dry_run:
            raise UserError(f"Slurm does not answer ({why}): nothing is submitted")
        message = f"Slurm does not answer ({why}); assumed: MaxArraySize {_DEFAULT_MAX_ARRAY}"
        print(message, file=sys.stderr)
    arguments = work_arguments(options, folder / "sets")
    for number, pool in enumerate(pools, 1):
        size = largest or _DEFAULT_MAX_ARRAY
        for array in sbatch.chunks(pool.pending.name, number, pool.workers, size):
            work = ["src.sweep", "work", str(number), *arguments]
            text = sbatch.script(array, options.resources, folder, Path.cwd(), work)
            yield JobScript(array, text, pool)


def _submit(
    options: SubmitOptions, pools: Sequence[WorkerPool], scripts: Sequence[JobScript], folder: Path
) -> ExitStatus:
    """Start the workers, and record what was started, however far that came."""
    stop = StopSignal().install() if options.executor == "local" else None
    arrays: list[dict[str, Any]] = []
    workers: list[local_workers.Process] = []
    by_log: list[tuple[str, list[local_workers.Process]]] = []
    runs_dir = options.training.runs_dir
    try:
        runs = {script.array.number: script.pool.cells for script in scripts}
        texts = {script.array.label: script.text for script in scripts}
        submissions.fill(folder, list(runs.values()), texts)
        for script in scripts:
            path = folder / f"{script.array.label}.sh"
            array = {**_array_record(script), "log": sbatch.log(folder, script.array)}
            if options.on_slurm:
                arrays.append({**array, "job": submission.submit(path)})
            else:
                count, in_use = script.array.workers, submissions.gpus_in_use(runs_dir)
                gpus = local_workers.distribute_gpus(options.gpus, count, in_use)
                started = local_workers.start(path, count, array["log"], gpus)
                workers += started
                by_log.append((array["log"], started))
                identities = [processes.identity(process.pid) for process in started]
                arrays.append({**array, "processes": identities, "gpus": gpus})
    finally:
        submissions.close(folder, {**_submission_record(options, folder), "arrays": arrays})
    print_plan(options, pools, folder, arrays=arrays)
    if stop is None:
        return ExitStatus.DONE
    status = local_workers.wait(workers, stop)
    for log, started in by_log:
        for failure in local_workers.failures(started, log):
            print(failure, file=sys.stderr)
    return status


def _array_record(script: JobScript) -> dict[str, Any]:
    array = script.array
    ids = list(script.pool.pending.todo)
    return {"name": array.name, "set": array.number, "workers": array.workers, "runs": ids}


def _submission_record(options: SubmitOptions, folder: Path) -> dict[str, Any]:
    return {
        "submission": int(folder.name),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "executor": options.executor,
        "cluster": client.this_cluster() if options.on_slurm else None,
        "host": os.uname().nodename,
        "commit": git_commit(),
        "arguments": list(options.arguments),
    }
