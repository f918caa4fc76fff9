"""Why workers are not started by submitit itself: without grace time it loses them."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import submitit

from tests.conftest import Run

pytestmark = pytest.mark.slurm

GRID = """
base_dataset_path: synthetic
model_type: cifar10net
num_epochs: 6
batch_size: 50
max_images: 2000
"""


class Patient(submitit.helpers.Checkpointable):
    """Work that can be interrupted at any time, and ends when a file is there."""

    def __call__(self, started: Path, finish: Path) -> str:
        started.touch()
        while not finish.exists():
            time.sleep(0.1)
        return "done"


def slurm(*words: object) -> str:
    done = subprocess.run(
        [str(word) for word in words], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def until(condition: Callable[[], object], seconds: float = 180) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "waited too long"
        time.sleep(0.3)


@pytest.fixture
def no_grace(cluster: Path) -> Iterator[None]:
    slurm("scontrol", "update", "PartitionName=gpu", "GraceTime=0")
    yield
    slurm("scontrol", "update", "PartitionName=gpu", "GraceTime=20")


def test_a_preemption_without_grace_loses_stock_submitit_and_not_us(
    no_grace: None, command: Run, tmp_path: Path
) -> None:
    """Its requeue, a child of the job, dies of the same signal, or finds the job requeued."""
    started, finish, runs = tmp_path / "started", tmp_path / "finish", tmp_path / "runs"
    executor = submitit.AutoExecutor(tmp_path / "stock", cluster="slurm")
    executor.update_parameters(timeout_min=20, slurm_partition="gpu", cpus_per_task=4)
    stock = executor.submit(Patient(), started, finish)
    (tmp_path / "grid.yaml").write_text(GRID)
    words = ("python", "-m", "src.sweep", "submit", "--grid", tmp_path / "grid.yaml")
    command(*words, "--runs", runs, "--workers", 1, "--cpus", 4, "--time", 10)
    logs = runs / "submissions" / "1" / "logs"

    def said() -> str:
        return "".join(path.read_text() for path in logs.glob("*.out"))

    until(lambda: started.exists() and "epoch 1" in said())
    urgent = ("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null")
    for _ in range(4):
        slurm(*urgent, "--wrap=sleep 1")
    until(
        lambda: (
            "PREEMPTED" in slurm("sacct", "-D", "-X", "-n", "-o", "State", "-j", stock.job_id)
            or stock.job_id not in slurm("squeue", "-h", "-t", "RUNNING", "-o", "%A")
        )
    )
    finish.touch()
    until(lambda: not slurm("squeue", "-h", "--partition=gpu", "-o", "%A"))

    assert "restart 1" in said()
    assert len(list(runs.glob("*/*/result.json"))) == 1, said()
    assert not stock.paths.result_pickle.exists() or stock.exception() is not None
