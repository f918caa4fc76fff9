"""What the restarts of a Slurm job have achieved: <runs>/slurm_jobs/<job>.json.

A job that requeues itself for ever without getting anywhere is stopped, and nodes that it was kept
off are allowed again once they count as good.
"""

from contextlib import suppress
from pathlib import Path

from src.common import files, paths
from src.common.errors import Restart
from src.faults.node_health import bad_nodes
from src.slurm.client import this_cluster, this_job


def plan_restart(runs_dir: Path, *, progressed: bool) -> Restart:
    """How this job should run again, given the restarts before. Records this one.

    progressed: whether this process has saved a step of training, or ended a run. Outside a Slurm
    job nothing is recorded.
    """
    job = this_job()
    if job is None:
        return Restart()
    path = paths.slurm_jobs_dir(runs_dir) / f"{job}.json"
    before = files.read_json(path) or {}
    if before.get("cluster") != this_cluster():  # job ids of another cluster, or of an earlier one
        before = {}
    excluded = [str(node) for node in before.get("excluded", [])]
    bad = bad_nodes(runs_dir)
    restart = Restart(
        exclude=tuple(bad),
        readmit=tuple(node for node in excluded if node not in bad),
        without_progress=0 if progressed else int(before.get("without_progress", 0)) + 1,
    )
    record = {
        "cluster": this_cluster(),
        "excluded": bad,
        "without_progress": restart.without_progress,
    }
    with suppress(OSError):  # a full disk must not keep the job from going on
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, record)
    return restart
