"""Preemption without grace time: submitit's checkpointing compared with our workers."""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import submitit
from submitit.core.utils import FailedJobError

from tests.chaos import cluster as clusters
from tests.conftest import RunCommand

pytestmark = pytest.mark.slurm

GRID = """
base_dataset_path: synthetic
model_type: cifar10net
learning_rate: 0.001
num_epochs: 30
batch_size: 50
max_images: 2000
"""


class Sleeper(submitit.helpers.Checkpointable):
    """A job that submitit can checkpoint and restart; it ends when a file `release` exists."""

    def __call__(self, folder: str) -> None:
        """Create `begun` in `folder`, then wait for `release`."""
        Path(folder, "begun").touch()
        give_up = time.monotonic() + 300
        while not Path(folder, "release").exists() and time.monotonic() < give_up:
            time.sleep(0.2)


@pytest.fixture
def cluster_without_grace(cluster: Path) -> Iterator[Path]:
    """Start a second cluster, on which preempted jobs have no grace time."""
    with (
        tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder,
        clusters.cluster(Path(folder, "c"), grace=0) as place,
    ):
        yield place


def test_worker_survives_preemption_that_fails_submitit_job(
    cluster_without_grace: Path, command: RunCommand, tmp_path: Path
) -> None:
    runs, logs = tmp_path / "runs", tmp_path / "runs" / "submissions" / "1" / "logs"
    (tmp_path / "grid.yaml").write_text(GRID)
    words = ("python", "-m", "src.sweep", "submit", "--grid", tmp_path / "grid.yaml")
    submit = (*words, "--runs", runs, "--workers", 1, "--cpus", 1, "--time", 10, "--json")
    [job_id] = json.loads(command(*submit).stdout)["groups"][0]["jobs"]

    executor = submitit.AutoExecutor(tmp_path / "stock")
    executor.update_parameters(slurm_partition="gpu", cpus_per_task=1, timeout_min=60)
    submitit_job = executor.submit(Sleeper(), str(tmp_path))

    clusters.wait_until((tmp_path / "begun").exists, "submitit's job runs")
    clusters.wait_until(lambda: "epoch 2/" in clusters.logs_text(logs), "our worker trains")
    assert clusters.preempt(cluster_without_grace, logs) == 1

    with pytest.raises(FailedJobError, match="scontrol"):
        submitit_job.result()  # submitit reports a failure although Slurm requeues the job
    (tmp_path / "release").touch()
    clusters.wait_until(lambda: not clusters.queued(), "all is done")
    log_text = clusters.logs_text(logs)
    assert "(restart 1)" in log_text
    assert len(list(runs.glob("*/*/result.json"))) == 1, log_text
    assert json.loads(command(*submit).stdout)["groups"][0]["workers"] == 0
    states = clusters.slurm_output("sacct", "-X", "-n", "-P", "-D", "-j", job_id, "--format=State")
    assert set(states.split()) <= {"COMPLETED", "PREEMPTED", "REQUEUED"}
