"""Submit a probe job as `submit` would submit a worker, and turn its reports into checks."""

import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from src.common import files
from src.common.errors import UserError
from src.slurm import job_control, job_queue, submission
from src.sweep.doctor.checks import Check, ok, warning, wrong
from src.sweep.doctor.probe import TASKS
from src.sweep.launch import sbatch, submission_record
from src.sweep.launch.sbatch import Resources

_MINUTES = 5
_POLL_SECONDS = 0.5
_SHARING_SECONDS = 60.0  # after which clients of NFS ask the server again, unless it is tuned
_SIGNAL_SECONDS = 20.0

Reports = dict[int, dict[str, Any]]


def probe_checks(
    resources: Resources,
    runs_dir: Path,
    data: tuple[str, str],
    patience: float,
    stop: Callable[[], bool] = lambda: False,
) -> list[Check]:
    """Run two tasks in a folder of the runs folder; all that they leave is removed.

    data: path and name of the data set. patience: seconds to wait for both to start and report.
    stop: asked meanwhile.
    """
    folder = runs_dir / f"doctor-{uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True)
        submission_record.prepare(folder)
        arguments = ["src.sweep.doctor.probe", str(folder), *data]
        script = folder / "doctor.sh"
        _write_script(script, resources, arguments)
        if refused := submission.refusal(script):
            return [wrong("request", refused, "submit would be refused in the same way")]
        minutes = _minutes(patience)
        _write_script(script, replace(resources, minutes=minutes, minutes_of={}), arguments)
        return [
            ok("request", f"Slurm accepts what submit would ask for: {in_words(resources)}"),
            *_run_probe(script, patience, stop, has_gpu=resources.has_gpu),
        ]
    except UserError as error:
        return [_not_submitted(error)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _minutes(patience: float) -> int:
    """Time limit of the probe job: each task must last until both were waited for."""
    seconds = patience + max(patience, _SHARING_SECONDS) + _SIGNAL_SECONDS
    return max(_MINUTES, math.ceil(seconds / 60) + 1)


def _write_script(script: Path, resources: Resources, arguments: list[str]) -> None:
    array = sbatch.JobArray("doctor", 1, TASKS)
    text = sbatch.script(array, resources, script.parent, Path.cwd(), arguments)
    files.write_text(script, text)


def _run_probe(
    script: Path, patience: float, stop: Callable[[], bool], *, has_gpu: bool
) -> list[Check]:
    """Submit the probe job, wait for what its tasks report, and cancel it."""
    folder = script.parent
    try:
        job = submission.submit(script)
    except UserError as error:
        return [_not_submitted(error)]
    try:
        reports = _wait_for_reports(folder, patience, stop, lambda r: len(r) == TASKS)
        if len(reports) == TASKS:
            seconds = max(patience, _SHARING_SECONDS)
            reports = _wait_for_reports(folder, seconds, stop, _have_seen_others)
            job_control.signal_batch_script(job)
            reports = _wait_for_reports(folder, _SIGNAL_SECONDS, stop, _have_signals)
        waiting, log = _why_waiting(job), _last_lines(folder)
        return list(report_checks(reports, waiting, log, has_gpu=has_gpu))
    finally:
        job_control.cancel([job], quiet=True)


def _not_submitted(error: UserError) -> Check:
    return wrong("probe job", str(error), "submit would be refused in the same way")


def in_words(resources: Resources) -> str:
    """What each worker asks for."""
    where = f"partition {resources.partition}" if resources.partition else "the default partition"
    names = ("account", "qos", "constraint")
    parts = [f"{name} {getattr(resources, name)}" for name in names if getattr(resources, name)]
    additional = [
        f"{key}={value}" if value else key for key, value in resources.additional_parameters.items()
    ]
    amounts = [resources.gres or "no GPU", f"{resources.cpus} CPUs"]
    amounts += [f"{resources.mem} of memory"] if resources.mem else []
    return ", ".join([where, *parts, *amounts, f"{resources.minutes} minutes", *additional])


def report_checks(
    reports: Reports, waiting: str | None, log: str, *, has_gpu: bool = False
) -> Iterator[Check]:
    """The checks that follow from the tasks' reports.

    waiting: why the job waits, in Slurm's words; None if it does not. log: the end of its output.
    has_gpu: whether each task has asked for a GPU.
    """
    if not reports and waiting:
        yield warning(
            "probe job",
            f"it did not start in time: {waiting}",
            "--wait with more seconds; a sweep waits as long",
        )
        return
    if not reports:
        yield wrong(
            "probe job",
            f"it started, and wrote nothing to the runs folder; its log ends: {log or 'no log'}",
            "nodes must see the checkout, its environment and the runs folder under these paths",
        )
        return
    places = [str(report.get("node") or report.get("host")) for report in reports.values()]
    first = next(iter(reports.values()))
    yield ok(
        "probe job",
        f"ran on {', '.join(dict.fromkeys(places))}: Python {first.get('python')}, torch "
        f"{first.get('torch')}, {first.get('gpus')} GPUs",
    )
    problems = [text for report in reports.values() for text in report.get("problems", [])]
    if problems:
        yield wrong(
            "environment of jobs",
            problems[0],
            "nodes must have the same environment and data: README.md tells how to make it",
        )
    else:
        yield ok("environment of jobs", "torch is imported and the data is read")
    if has_gpu and not problems:
        yield _gpus_of_jobs(reports)
    yield _sharing(reports, places)
    if all(report.get("signal") for report in reports.values()):
        yield ok("signals", "SIGUSR1, the warning of a time limit, arrives")
    else:
        yield warning(
            "signals",
            "SIGUSR1 did not arrive: jobs are not warned of their time limit",
            "runs then go on from their last checkpoint, at most --checkpoint_minutes old",
        )


def _gpus_of_jobs(reports: Reports) -> Check:
    """Whether torch sees the GPU that each task was given."""
    without = [report for report in reports.values() if not report.get("gpus")]
    if not without:
        names = dict.fromkeys(str(report.get("device")) for report in reports.values())
        return ok("GPUs of jobs", ", ".join(names))
    return warning(
        "GPUs of jobs",
        f"torch sees none on {without[0].get('node') or without[0].get('host')}, which has no "
        "NVIDIA driver",
        "runs would train on its CPU: another --partition or --constraint, or --gres none",
    )


def _sharing(reports: Reports, places: list[str]) -> Check:
    if len(reports) < TASKS:
        return warning(
            "shared file system",
            "only one of two tasks has run",
            "--wait with more seconds, to see whether nodes read each other's files",
        )
    if not all(report.get("sees_other") for report in reports.values()):
        return wrong(
            "shared file system",
            f"a node does not see what another has written ({', '.join(places)})",
            "--runs on a file system that all nodes share",
        )
    if len(set(places)) == 1:
        return warning(
            "shared file system",
            f"both tasks ran on {places[0]}",
            "whether nodes share the folder was not seen; --sbatch exclusive spreads them",
        )
    return ok("shared file system", f"{' and '.join(places)} read each other's files")


def _wait_for_reports(
    folder: Path, seconds: float, stop: Callable[[], bool], enough: Callable[[Reports], bool]
) -> Reports:
    end = time.monotonic() + seconds
    while True:
        read = {task: files.read_json(folder / f"probe-{task}.json") for task in range(TASKS)}
        reports = {task: report for task, report in read.items() if report}
        if enough(reports) or stop() or time.monotonic() > end:
            return reports
        time.sleep(_POLL_SECONDS)


def _have_seen_others(reports: Reports) -> bool:
    return all(report.get("sees_other") for report in reports.values())


def _have_signals(reports: Reports) -> bool:
    return all(report.get("signal") for report in reports.values())


def _why_waiting(job: str) -> str | None:
    """Why a job waits. Returns None if it does not, or that is not known."""
    jobs = job_queue.distinct(job_queue.jobs(quiet=True) or {})
    reasons = [queued.reason for queued in jobs if queued.array == job and queued.reason]
    return ", ".join(dict.fromkeys(reasons)) or None


def _last_lines(folder: Path) -> str:
    logs = sorted((folder / "logs").glob("*"))
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
    return " / ".join(lines[-3:])
