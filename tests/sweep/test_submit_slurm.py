"""python -m src.sweep submit on the rehearsal cluster."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from src.common import files
from src.config import RunConfig
from src.runs import leases
from src.runs.run_folder import RunFolder
from src.slurm import job_poller, job_queue
from tests import own_nets
from tests.conftest import RunCommand, wait_until

pytestmark = pytest.mark.slurm

GRID = """
base_dataset_path: synthetic
model_type: cifar10net
learning_rate: [0.001, 0.0005, 0.0001]
num_epochs: 3
batch_size: 50
max_images: 2000
"""


def test_sweep_is_submitted_once_and_survives_requeue(
    cluster: Path, command: RunCommand, tmp_path: Path
) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    runs, logs = tmp_path / "my runs", tmp_path / "my runs" / "submissions" / "1" / "logs"
    words = ("python", "-m", "src.sweep", "submit", "--grid", tmp_path / "grid.yaml")
    options = ("--runs", runs, "--workers", 2, "--cpus", 1, "--time", 10, "--json")

    def submit() -> dict[str, Any]:
        group: dict[str, Any] = json.loads(command(*words, *options).stdout)["groups"][0]
        return group

    def log_text(task: int) -> str:
        return "".join(path.read_text() for path in logs.glob(f"*_{task}.out"))

    first = submit()
    assert first["workers"] == 2
    assert submit()["workers"] == 0, "the workers are queued"
    [job] = first["jobs"]
    wait_until(lambda: "epoch 1" in log_text(0))
    subprocess.run(["scontrol", "requeue", f"{job}_0"], check=True)
    wait_until(lambda: "restart 1" in log_text(0))
    assert submit()["workers"] == 0, "the workers are running"
    wait_until(lambda: job_queue.jobs() == {})

    assert len(list(runs.glob("*/*/result.json"))) == 3, log_text(0) + log_text(1)
    assert "everything is saved" in log_text(0)
    assert sum(log_text(task).count("epochs, completed)") for task in (0, 1)) == 3
    records = [files.read_json(path) or {} for path in runs.glob("*/*/attempts/*.json")]
    assert len(records) <= 4
    assert {record["slurm_job"] for record in records} == {f"{job}_0", f"{job}_1"}
    last = submit()
    assert (last["done"], last["workers"]) == (3, 0)
    assert [path.name for path in (runs / "submissions").iterdir()] == ["1"]


def test_own_models_and_two_data_sets_from_grid_to_page(
    cluster: Path, command: RunCommand, tmp_path: Path
) -> None:
    """The file of the models is gone before the jobs start: they train the submitted copy."""
    nets = own_nets.write(tmp_path, own_nets.SMALL + "\n\nclass Other(SmallNet):\n    pass\n")
    settings = {
        "num_epochs": 1,
        "batch_size": 50,
        "max_images": 100,
        "dataset": ["cifar10", "mnist"],
    }
    models = [f"{nets}:SmallNet", f"{nets}:Other"]
    (tmp_path / "grid.yaml").write_text(json.dumps({**settings, "model_type": models}))
    sets, runs, csv = tmp_path / "sets", tmp_path / "runs", tmp_path / "runs.csv"
    sweep, report = ("python", "-m", "src.sweep"), ("python", "-m", "src.report")
    command(*sweep, "generate", "--grid", tmp_path / "grid.yaml", "--out", sets)
    options = ("--runs", runs, "-d", "synthetic", "--workers", 1, "--cpus", 1, "--time", 10)
    command(*sweep, "submit", "--sets", sets, *options)
    nets.unlink()
    wait_until(lambda: job_queue.jobs() == {})
    logs = [path.read_text() for path in runs.glob("submissions/1/logs/*.out")]
    assert len(list(runs.glob("*/*/result.json"))) == 4, logs
    command(*report, "aggregate", "--runs", runs, "--csv", csv)
    command(*report, "page", "--runs", runs, "--csv", csv, "--out", tmp_path)
    page = (tmp_path / "report.html").read_text()
    for model in ("my_nets.SmallNet", "my_nets.Other"):
        assert model in page
        assert f"{model} on synthetic-mnist" in page


def test_lease_of_killed_job_is_taken_over_at_once(
    cluster: Path, tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_poller, "shared", job_poller.JobPoller())
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "rehearsal")
    words = ["sbatch", "--parsable", "--array=0-0", "--output=/dev/null", "--wrap=sleep 60"]
    job = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    folder = RunFolder.of(config, tmp_path)
    folder.register(config)
    lease = leases.acquire(folder.path)
    assert lease
    lease._over.set()
    lease._thread.join()
    lease.record |= {"slurm_job": f"{job}_0", "slurm_cluster": "rehearsal"}
    lease.record["process"]["machine"] = "another"
    files.write_json(folder.path / "attempts" / "1.json", lease.record)
    assert leases.acquire(folder.path) is None
    subprocess.run(["scancel", "--signal=KILL", "--full", f"{job}_0"], check=True)
    wait_until(lambda: job_queue.jobs() == {})
    monkeypatch.setattr(job_poller.shared, "_ask_at", 0.0)
    new_lease = leases.acquire(folder.path)
    assert new_lease
    new_lease.end("done")
