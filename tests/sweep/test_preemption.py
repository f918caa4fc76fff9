"""Preempted without a second's grace: submitit as it is, and our workers beside it."""

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
num_epochs: 12
batch_size: 50
max_images: 2000
"""


class Sleeper(submitit.helpers.Checkpointable):
    """A job that submitit may stop and begin anew. It ends when there is a file `told`."""

    def __call__(self, folder: str) -> None:
        """Note the beginning in `folder`, and wait there."""
        Path(folder, "begun").touch()
        give_up = time.monotonic() + 300
        while not Path(folder, "told").exists() and time.monotonic() < give_up:
            time.sleep(0.2)


@pytest.fixture
def graceless(cluster: Path) -> Iterator[Path]:
    """A cluster beside that of the other tests, on which preempted jobs have no grace time."""
    with (
        tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder,
        clusters.cluster(Path(folder, "c"), grace=0) as place,
    ):
        yield place


def test_submitit_gives_up_a_job_that_ours_goes_on_with(
    graceless: Path, command: RunCommand, tmp_path: Path
) -> None:
    runs, logs = tmp_path / "runs", tmp_path / "runs" / "submissions" / "1" / "logs"
    (tmp_path / "grid.yaml").write_text(GRID)
    words = ("python", "-m", "src.sweep", "submit", "--grid", tmp_path / "grid.yaml")
    ours = (*words, "--runs", runs, "--workers", 1, "--cpus", 1, "--time", 10, "--json")
    [ours_id] = json.loads(command(*ours).stdout)["groups"][0]["jobs"]

    executor = submitit.AutoExecutor(tmp_path / "stock")
    executor.update_parameters(slurm_partition="gpu", cpus_per_task=1, timeout_min=60)
    stock = executor.submit(Sleeper(), str(tmp_path))

    clusters.until((tmp_path / "begun").exists, "submitit's job runs")
    clusters.until(lambda: "epoch 2/" in clusters.said(logs), "our worker trains")
    assert clusters.preempt(graceless, logs) == 1

    with pytest.raises(FailedJobError, match="scontrol"):
        stock.result()  # though Slurm brings the job back, its submitter is told that it failed
    (tmp_path / "told").touch()
    clusters.until(lambda: not clusters.queued(), "all is done")
    said = clusters.said(logs)
    assert "(restart 1)" in said
    assert len(list(runs.glob("*/*/result.json"))) == 1, said
    assert json.loads(command(*ours).stdout)["groups"][0]["workers"] == 0
    states = clusters.answer("sacct", "-X", "-n", "-P", "-D", "-j", ours_id, "--format=State")
    assert set(states.split()) <= {"COMPLETED", "PREEMPTED", "REQUEUED"}
