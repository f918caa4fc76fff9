"""Which GPUs a process may use, and how workers share them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from src.common import processes
from src.common.errors import ExitStatus, Restart, Stopped
from src.common.gpus import visible_gpus
from src.common.paths import ROOT
from src.common.signals import StopSignal
from src.config import RunConfig
from src.faults.job_restarts import WORKER, plan_restart, restart_of_workers
from src.sweep import sets
from src.sweep.commands import submit, work
from src.sweep.launch import local_workers
from src.sweep.launch.submit_options import parse
from tests.conftest import RunCommand, wait_until

LISTED = """
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
  MIG 3g.20gb     Device  0: (UUID: MIG-1111)
  MIG 3g.20gb     Device  1: (UUID: MIG-2222)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-cccc)
"""
GRID = """
base_dataset_path: synthetic
model_type: cifar10net_3
learning_rate: [0.1, 0.01, 0.001, 0.0001]
num_epochs: 1
batch_size: 100
max_images: 200
scheduler: step
gamma: 0.95
"""


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with GPUs, as far as nvidia-smi tells; the folder of the command."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nvidia-smi").write_text(f"#!/bin/bash\ncat <<'E'\n{LISTED}\nE\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return folder


def test_gpus_are_those_of_nvidia_smi_or_of_the_environment(
    nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert visible_gpus() == ["GPU-aaaa", "MIG-1111", "MIG-2222", "GPU-cccc"]
    for given, expected in {
        "2,3": ["2", "3"],
        "MIG-2222": ["MIG-2222"],
        "": [],
        "-1": [],
        "0,-1,1": ["0"],
    }.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert visible_gpus() == expected


def test_machine_without_nvidia_smi_has_no_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == []


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    return path


def test_default_is_one_local_worker_for_each_gpu(nvidia_smi: Path, grid_file: Path) -> None:
    words = ["--grid", str(grid_file), "--executor", "local"]
    assert parse(words).workers == 4
    assert parse([*words, "--workers", "2"]).workers == 2
    assert parse([*words, "--device", "cpu"]).workers == 1
    assert parse([*words, "--device", "cuda:1"]).gpus == ()


def test_each_local_worker_sees_its_own_gpu(
    nvidia_smi: Path, grid_file: Path, tmp_path: Path, command: RunCommand
) -> None:
    """torch finds no GPU here, and trains on the CPU; what counts is what each worker is given."""
    words = ("-m", "src.sweep", "submit", "--grid", grid_file, "--executor", "local")
    done = command(sys.executable, *words, "--runs", tmp_path / "runs", check=None)
    assert done.returncode == ExitStatus.DONE, done.stderr
    [record] = tmp_path.glob("runs/submissions/1/submission.json")
    [array] = json.loads(record.read_text())["arrays"]
    assert array["workers"] == 4
    logs = [path.read_text() for path in tmp_path.glob("runs/submissions/1/logs/*")]
    assert len(logs) == 4
    given = [gpu for log in logs for gpu in re.findall(r", GPUs: (\S+)", log)]
    assert sorted(given) == sorted(visible_gpus())
    assert len(list(tmp_path.glob("runs/*/*/result.json"))) == 4


def test_workers_are_distributed_evenly_over_gpus() -> None:
    distribute = local_workers.distribute_gpus
    assert distribute(["a", "b"], 5) == ["a", "b", "a", "b", "a"]
    assert distribute(["a", "b", "c"], 2, {"a": 1, "other": 4}) == ["b", "c"]
    assert distribute(["a", "b"], 3, {"a": 2}) == ["b", "b", "a"]
    assert distribute([], 3) == []


def test_added_worker_gets_the_gpu_that_no_other_has(
    nvidia_smi: Path, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three workers on three GPUs, the one on GPU 0 has died."""
    started: list[str] = []

    def start(script: Path, workers: int, log: str, gpus: list[str]) -> list[object]:
        started.extend(gpus)
        return []

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0,2")
    monkeypatch.setattr(local_workers, "start", start)
    folder = tmp_path / "runs" / "submissions" / "1"
    folder.mkdir(parents=True)
    alive = processes.identity()
    ids = [config.id for config in parse(["--grid", str(grid_file)]).configs]
    array: dict[str, object] = {"name": "all", "gpus": ["1", "0", "2"], "runs": ids}
    array["processes"] = [alive, {**alive, "pid": 2**22 + 1}, alive]
    record = {"executor": "local", "cluster": None, "arrays": [array]}
    (folder / "claim.json").write_text("{}")
    (folder / "submission.json").write_text(json.dumps(record))
    words = ["--grid", str(grid_file), "--executor", "local", "--runs", str(tmp_path / "runs")]
    assert submit.main(words) == ExitStatus.DONE
    assert started == ["0"]
    written = json.loads((tmp_path / "runs/submissions/2/submission.json").read_text())
    assert written["arrays"][0]["gpus"] == ["0"]


def test_failed_workers_are_named_with_their_logs(tmp_path: Path) -> None:
    script = tmp_path / "worker.sh"
    script.write_text("case $CUDA_VISIBLE_DEVICES in 0) exit 1;; 1) exit 3;; 2) kill -9 $$;; esac")
    log = str(tmp_path / "w-%A_%a.out")
    started = local_workers.start(script, 4, log, ["0", "1", "2", "3"])
    for worker in started:
        worker.wait(60)
    assert local_workers.failures(started, log) == [
        f"worker 0 ended with status 1: {tmp_path}/w-{os.getpid()}_0.out",
        f"worker 2 was killed by SIGKILL: {tmp_path}/w-{os.getpid()}_2.out",
    ]


@pytest.mark.parametrize(("device", "count"), [("auto", 2), ("cuda", 2), ("cpu", 0), ("cuda:1", 0)])
def test_work_in_a_job_starts_a_process_per_gpu_only_for_runs_on_any_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, count: int
) -> None:
    """The device may be that of the set file, as after `submit --device`."""
    gpus_given: list[str] = []

    def run_one_per_gpu(words: object, gpus: list[str], *_: object) -> ExitStatus:
        gpus_given.extend(gpus)
        return ExitStatus.DONE

    sets.write([[RunConfig(model_type="cifar10net", device=device)]], tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv(WORKER, raising=False)
    monkeypatch.setattr(work, "run_one_per_gpu", run_one_per_gpu)
    monkeypatch.setattr(work, "train", lambda *_: ExitStatus.DONE)
    assert work.main(["--sets", str(tmp_path), "--runs", str(tmp_path / "runs")]) == ExitStatus.DONE
    assert len(gpus_given) == count


def test_job_with_several_gpus_trains_on_each_and_is_requeued_once(
    grid_file: Path, tmp_path: Path
) -> None:
    """As under `srun --gres=gpu:3`: one parent, which forwards signals and requeues the job."""
    slurm, calls = tmp_path / "slurm", tmp_path / "calls"
    slurm.mkdir()
    for name, body in (("squeue", "[[ $* == *%T* ]] && echo RUNNING"), ("scontrol", "exit 0")):
        (slurm / name).write_text(f"#!/bin/bash\necho {name} $* >>{calls}\n{body}\n")
        (slurm / name).chmod(0o755)
    grid_file.write_text(GRID.replace("num_epochs: 1", "num_epochs: 9999"))
    subprocess.run(
        [sys.executable, "-m", "src.sweep", "generate", "--grid", grid_file, "--out", tmp_path],
        check=True,
        cwd=ROOT,
        capture_output=True,
    )
    job = {"SLURM_JOB_ID": "12", "SLURM_CLUSTER_NAME": "x", "CUDA_VISIBLE_DEVICES": "5,6,7"}
    job |= {"REQUEUE_ON_STOP": "1", "PATH": f"{slurm}:/usr/bin:/bin"}
    job |= {"SLURM_CPUS_PER_TASK": "6", "OMP_NUM_THREADS": "6"}  # as environment.sh sets it
    words = ["-m", "src.sweep", "work", "--sets", tmp_path, "--runs", tmp_path / "runs"]
    log = tmp_path / "log"
    with log.open("w") as output:
        parent = subprocess.Popen(
            [sys.executable, *map(str, words), "-q"],
            cwd=ROOT,
            env={**os.environ, **job},
            stdout=output,
            stderr=output,
        )
        wait_until(lambda: len(list(tmp_path.glob("runs/*/*/attempts/1.json"))) == 3)
        found = re.findall(r"worker \d on GPU (\d): process (\d+)", log.read_text())
        environments = [Path(f"/proc/{pid}/environ").read_text().split("\0") for _, pid in found]
        parent.terminate()
        assert parent.wait(120) == ExitStatus.STOPPED, log.read_text()
    text = log.read_text()
    assert [gpu for gpu, _ in found] == ["5", "6", "7"]
    for (gpu, _), environment in zip(found, environments, strict=True):
        assert f"CUDA_VISIBLE_DEVICES={gpu}" in environment
        assert "OMP_NUM_THREADS=2" in environment, "a third of the job's cores"
    assert text.count("everything is saved") == 4, "three workers and their parent"
    assert calls.read_text().count("requeue 12") == 1


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (ExitStatus.DONE, ExitStatus.DONE, ExitStatus.DONE),
        (ExitStatus.STOPPED, ExitStatus.DONE, ExitStatus.DONE),
        (ExitStatus.DONE, ExitStatus.STOPPED, None),
        (ExitStatus.SOME_RUNS_FAILED, ExitStatus.STOPPED, None),
        (ExitStatus.SOME_RUNS_FAILED, ExitStatus.DONE, ExitStatus.SOME_RUNS_FAILED),
    ],
)
def test_runs_of_the_worker_that_is_stopped_last_are_left(
    first: int, last: int, expected: ExitStatus | None
) -> None:
    """A worker without work ends while another trains: nobody finishes what that one leaves."""
    workers = [
        subprocess.Popen(["bash", "-c", f"sleep {seconds}; exit {status}"])
        for seconds, status in ((0, first), (1, last))
    ]
    if expected is None:
        with pytest.raises(Stopped):
            local_workers.wait(workers, StopSignal())
    else:
        assert local_workers.wait(workers, StopSignal()) == expected


def test_restart_of_a_job_is_that_of_its_best_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "x")
    for worker, progressed in (("0", False), ("1", True), ("0", False)):
        monkeypatch.setenv(WORKER, worker)
        plan_restart(tmp_path, progressed=progressed)
    monkeypatch.delenv(WORKER)
    assert restart_of_workers(tmp_path, 2) == Restart(without_progress=0)
    assert restart_of_workers(tmp_path, 1) == Restart(without_progress=2)
