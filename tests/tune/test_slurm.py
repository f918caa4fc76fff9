"""Search workers as jobs of the rehearsal cluster."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import RunCommand

pytestmark = pytest.mark.slurm

SEARCH = """
base_dataset_path: synthetic
model_type: cifar10net
num_epochs: 1
max_images: 200
search:
  learning_rate: {low: 0.0001, high: 0.1, log: true}
"""


def test_two_jobs_share_one_search(cluster: Path, command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SEARCH)
    words = ("python", "-m", "src.tune", "search", "--config", tmp_path / "small.yaml")
    folders = ("--trials", 4, "--runs", tmp_path / "runs", "--out", tmp_path / "out")
    options = ("--executor", "slurm", "--workers", 2, "--gpus", 0, "--time", 10)
    jobs = command(*words, *folders, *options).stdout.split()
    assert len(jobs) == 1, "all workers must be one array job"
    give_up = time.monotonic() + 120
    while _queued():
        assert time.monotonic() < give_up, "timed out"
        time.sleep(0.5)
    logs = {path.name: path.read_text() for path in (tmp_path / "runs").rglob("search-*.out")}
    assert len(logs) == 2, logs
    completed = command(*words, *folders)
    assert "trials:  4 complete" in completed.stdout, logs
    assert "(4 of 4)" not in completed.stderr, "no trial may be left to run"
    runs = list((tmp_path / "runs" / "cifar10net").iterdir())
    assert len(runs) == 4
    assert all(len(list((path / "attempts").iterdir())) == 1 for path in runs)


def _queued() -> str:
    completed = subprocess.run(
        ["squeue", "--noheader", "--name=cifar10-1-search"],
        check=True,
        capture_output=True,
        text=True,
    )
    return completed.stdout
