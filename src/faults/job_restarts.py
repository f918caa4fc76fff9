"""What the restarts of a Slurm job have achieved: <runs>/slurm_jobs/<job>.json.

A job that requeues itself for ever without getting anywhere is stopped, and nodes that it was kept
off are allowed again once they count as good.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.common import files, paths
from src.common.errors import Restart
from src.faults.node_health import bad_nodes
from src.slurm import job_control
from src.slurm.client import this_cluster, this_job

WORKER = "SWEEP_WORKER"
"""The environment variable with the number of a worker, where a job has one for each GPU."""


def plan_restart(runs_dir: Path, *, progressed: bool) -> Restart:
    """How this job should run again, given the restarts before. Records this one.

    progressed: whether this process has saved a step of training, or ended a run. Outside a Slurm
    job nothing is recorded. While the file system fails the restarts before are unknown: the job
    runs again, on any node.
    """
    job = this_job()
    if job is None:
        return Restart()
    path = _file(runs_dir, job, os.environ.get(WORKER))
    try:
        before, bad = _read(path), bad_nodes(runs_dir)
    except OSError:
        return Restart()
    excluded = [str(node) for node in before.get("excluded", [])]
    restart = Restart(
        exclude=tuple(bad),
        readmit=tuple(node for node in excluded if node not in bad),
        without_progress=0 if progressed else int(before.get("without_progress", 0)) + 1,
    )
    record = {
        "cluster": this_cluster(),
        "excluded": bad,
        "readmitted": restart.readmit,
        "without_progress": restart.without_progress,
    }
    with suppress(OSError):  # a full disk must not keep the job from going on
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, record)
    return restart


def restart_of_workers(runs_dir: Path, workers: int) -> Restart:
    """How this job should run again, from what `plan_restart` has recorded in its workers.

    Like there, it runs again on any node while the file system fails.
    """
    job = this_job()
    if job is None:
        return Restart()
    try:
        records = [_read(_file(runs_dir, job, str(number))) for number in range(workers)]
    except OSError:
        return Restart()
    excluded = sorted({str(node) for record in records for node in record.get("excluded", [])})
    readmitted = {str(node) for record in records for node in record.get("readmitted", [])}
    return Restart(
        exclude=tuple(excluded),
        readmit=tuple(sorted(readmitted - set(excluded))),
        without_progress=min(int(record.get("without_progress", 0)) for record in records),
    )


def readmit(runs_dir: Path, nodes: Sequence[str]) -> list[str]:
    """Let jobs that wait in the queue run on nodes again that a restart has excluded for them.

    Returns the ids of these jobs.
    """
    changed = []
    for path in sorted(paths.slurm_jobs_dir(runs_dir).glob("*.json")):
        record = _read(path)
        excluded = {str(node) for node in record.get("excluded", [])}
        job = path.stem.partition("-")[0]
        if job in changed or excluded.isdisjoint(nodes) or not job_control.is_waiting(job):
            continue
        if job_control.change_excluded_nodes(job, remove=nodes) is not None:
            changed.append(job)
    return changed


def _file(runs_dir: Path, job: str, worker: str | None) -> Path:
    name = job if worker is None else f"{job}-{worker}"
    return paths.slurm_jobs_dir(runs_dir) / f"{name}.json"


def _read(path: Path) -> dict[str, Any]:
    """A record. Empty if there is none, or it is of a job of another cluster with the same id."""
    record = files.read_json(path) or {}
    return record if record.get("cluster") == this_cluster() else {}
