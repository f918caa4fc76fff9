"""Cancel runs: stop the Slurm jobs and the local processes that train them."""

import os
import signal
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.cli.arguments import Parser
from src.cli.common_options import add_runs_option
from src.common import processes
from src.common.errors import ExitStatus
from src.runs.leases import AttemptRecord
from src.runs.run_folder import all_runs
from src.runs.snapshot import Snapshot, State
from src.slurm import client, job_control, job_poller, job_queue
from src.slurm.job_queue import Job, JobState
from src.sweep.command_options import add_run_arguments, selected_runs


@dataclass(frozen=True)
class Plan:
    """What to stop, each with the names of its runs, and what cannot be stopped from here."""

    jobs: dict[str, list[str]]
    processes: dict[int, list[str]]
    unreachable: list[str]


def main(arguments: Sequence[str]) -> ExitStatus:
    """Plan, print the plan, and carry it out unless it is a dry run.

    The exit status is 1 if something could not be stopped.
    """
    parsed = _parser().parse(arguments)
    selected = {run.path.resolve() for run in selected_runs(parsed)}
    paths = {run.path.resolve() for run in all_runs(parsed.runs)} | selected
    runs = [Snapshot(path) for path in sorted(paths)]
    running = [run for run in runs if run.state == State.RUNNING]
    queued = job_poller.shared.jobs()
    plan = decide(running, selected, queued, every_job=parsed.all)
    for line in _lines(plan, parsed.dry_run):
        print(line)
    for line in plan.unreachable:
        print(line, file=sys.stderr)
    if parsed.dry_run:
        return ExitStatus.DONE
    stopped = _stop(plan)
    return ExitStatus.DONE if stopped and not plan.unreachable else ExitStatus.SOME_RUNS_FAILED


def decide(
    running: Iterable[Snapshot],
    selected: Collection[Path],
    queued: Mapping[str, Job] | None,
    *,
    every_job: bool = False,
) -> Plan:
    """What to stop so that no process trains the runs in the folders `selected`.

    Of a job that no job script of this project has started, such as a notebook's, at most the
    worker's process is stopped.
    queued: from `job_queue.jobs`. every_job: also all jobs that were submitted from this
    repository, waiting ones too.
    """
    jobs: dict[str, list[Snapshot]] = {}
    by_process: dict[int, list[Snapshot]] = {}
    unreachable: list[str] = []
    for run in running:
        record = run.attempts[-1].record
        job = _job_of(record, queued or {})
        if job and job.is_from_job_script:
            jobs.setdefault(job.id, []).append(run)
        elif (job or not record.get("slurm_job_id")) and (pid := _process_here(record)):
            by_process.setdefault(pid, []).append(run)
        elif run.path in selected:
            unreachable.append(f"{run.path.name}: {_out_of_reach(record, job, queued)}")
    if every_job and queued is None and client.has_squeue():
        why = client.queue_failure()
        unreachable.append(f"Slurm does not answer ({why}): jobs that wait are left as they are")
    job_runs = {worker: _names(runs) for worker, runs in jobs.items() if _any(runs, selected)}
    if every_job:
        job_runs |= {
            job.id: _names(jobs.get(job.id, []))
            for job in job_queue.distinct(queued or {})
            if job.is_ours and job.state != JobState.ENDED
        }
    process_runs = {
        worker: _names(runs) for worker, runs in by_process.items() if _any(runs, selected)
    }
    return Plan(job_runs, process_runs, unreachable)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep cancel",
        description="Stop the workers of runs: a Slurm job by scancel, a process of this "
        "machine by SIGTERM, on which it saves everything. Other runs of the same worker stop "
        "as well. --all: also every waiting job of a sweep that was submitted from this "
        "repository.",
    )
    add_run_arguments(parser)
    add_runs_option(parser)
    return parser


def _job_of(record: AttemptRecord, queued: Mapping[str, Job]) -> Job | None:
    """The job of an attempt. Returns None if it is over, or another cluster's with its id."""
    if record.get("slurm_cluster") not in (None, client.this_cluster()):
        return None
    job = queued.get(str(record.get("slurm_job_id")))
    return None if job and job.state == JobState.ENDED else job


def _process_here(record: AttemptRecord) -> int | None:
    """The process of an attempt. Returns None if it is gone, or on another machine."""
    process = record.get("process") or {}
    return int(process["pid"]) if processes.is_running(process) else None


def _out_of_reach(
    record: AttemptRecord, session: Job | None, queued: Mapping[str, Job] | None
) -> str:
    """Why the worker of a run cannot be stopped from here. session: its job, if it goes on."""
    process = record.get("process") or {}
    where = f"process {process.get('pid', '?')} on {record.get('host', 'another machine')}"
    if session:
        return (
            f"{where} may work on it, in job {session.id} ({session.name}), which the job scripts "
            f"of this project did not start: stop the process by hand, or scancel {session.id}"
        )
    job, cluster = record.get("slurm_job_id"), record.get("slurm_cluster")
    if job and cluster not in (None, client.this_cluster()):
        return f"job {job} of the cluster {cluster} may work on it: cancel it there"
    if job and queued is None:
        why = client.queue_failure()
        return f"job {job} may work on it, but Slurm is absent or does not answer ({why})"
    if job:
        return f"job {job} is not in your queue: it is gone, or somebody else's"
    return f"{where} may work on it: stop it there"


def _any(runs: Iterable[Snapshot], selected: Collection[Path]) -> bool:
    return any(run.path in selected for run in runs)


def _names(runs: Iterable[Snapshot]) -> list[str]:
    return [run.path.name for run in runs]


def _lines(plan: Plan, dry: bool) -> Iterable[str]:
    verb = "would stop" if dry else "stopping"
    for worker, names in (*plan.jobs.items(), *plan.processes.items()):
        kind = "process" if isinstance(worker, int) else "job"
        works = f", which works on {', '.join(names)}" if names else ""
        yield f"{verb} {kind} {worker}{works}"
    if not plan.jobs and not plan.processes:
        yield "nothing to stop"


def _stop(plan: Plan) -> bool:
    """Stop everything in the plan. Returns False if Slurm or the system refused."""
    refused = False
    for pid in plan.processes:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:  # it has ended meanwhile
            continue
        except PermissionError:
            print(f"process {pid} is somebody else's: it goes on", file=sys.stderr)
            refused = True
    return (not plan.jobs or job_control.cancel(plan.jobs)) and not refused
