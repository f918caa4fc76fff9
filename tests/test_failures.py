"""What a worker does about each cause of a failure, in this process and from the command line."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from src import data, files, models
from src.cli.door import door
from src.config import RunConfig
from src.data.dataset import Dataset
from src.errors import DiskFull, ExitStatus, NodeTrouble, Stopped, SweepStopped
from src.models.classifier import Classifier
from src.paths import ROOT
from src.progress import Silence
from src.results import attempts
from src.results.repeated import repeated
from src.results.store import RunFolder, State
from src.results.trouble import troubled_nodes
from src.run import run
from src.slurm import requeue
from src.sweep import sets
from src.sweep.commands import retry, submit
from src.sweep.standing.causes import kind_of
from src.training import device
from src.training.learner import Learner
from src.training.trainer import Trainer
from tests.conftest import Run


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, small_dataset: Dataset) -> None:
    monkeypatch.setattr(data, "load", lambda path: small_dataset)


@pytest.fixture
def tiny(config: RunConfig) -> RunConfig:
    return replace(config, num_epochs=1, max_images=100)


def seeds(config: RunConfig, count: int) -> list[RunConfig]:
    return [replace(config, seed=seed) for seed in range(count)]


def failing(monkeypatch: pytest.MonkeyPatch, errors: dict[int, Exception]) -> None:
    """Runs with these seeds break with these errors in their second step."""
    step = Trainer.advance

    def advance(trainer: Trainer) -> bool:
        if trainer.config.seed in errors and trainer.step == 1:
            raise errors[trainer.config.seed]
        return step(trainer)

    monkeypatch.setattr(Trainer, "advance", advance)


def left(runs: Path) -> list[str]:
    return [path.name for path in runs.rglob(".writing-*")]


class Notes(Silence):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


# memory


def test_a_model_that_fits_nowhere_is_put_back_then_fails_with_the_amounts(
    tiny: RunConfig, tmp_path: Path
) -> None:
    """Really: its second layer would take 3.6 TB."""
    huge = replace(tiny, model_type="tinyvgg", hidden_units=300_000)
    notes = Notes()
    broken, fine = run([huge, tiny], runs_dir=tmp_path, slots=2, progress=lambda total: notes)
    assert (broken.state, fine.state) == (State.FAILED, State.DONE)
    assert notes.lines == [f"{huge.name}: out of memory, put back; from now on 1 at a time"]
    failure = broken.failure
    assert failure
    assert (failure["cause"], failure["kind"]) == ("out of memory", "OutOfMemory")
    assert "asked for 3,240,000.0 MB more" in failure["message"]
    assert "were free" in failure["message"]
    assert "can't allocate memory" in failure["traceback"], "the cause is told too"
    assert kind_of(failure) == "out of memory"
    assert attempts.failures(broken.folder) == 1, "what was put back has not failed"
    again = run([huge], runs_dir=tmp_path, retries=0)
    assert again[0].failure == failure, "retries are bounded"


def test_a_run_put_back_gives_the_result_that_it_gives_alone(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run(seeds(config, 2), runs_dir=tmp_path / "alone")
    step, starved = Learner.train_batch, []

    def starving(learner: Learner, epoch: int, number: int) -> None:
        if learner.config.seed == 1 and epoch == 1 and not starved:
            starved.append(learner)
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(learner, epoch, number)

    monkeypatch.setattr(Learner, "train_batch", starving)
    beside = run(seeds(config, 2), runs_dir=tmp_path / "beside", slots=2)
    assert starved
    for one, other in zip(alone, beside, strict=True):
        assert one.result
        assert other.result
        assert (other.failure, other.result["attempt"]) == (None, 1)
        for name in ("best_val_accuracy", "train_loss", "test_loss_terminal", "epochs_run"):
            assert one.result[name] == other.result[name]


# disk


def full_after(monkeypatch: pytest.MonkeyPatch, free: int, number: int = errno.ENOSPC) -> None:
    """From now on no more than `free` bytes of a file can be written."""

    def write(file: files._Watched, chunk: Any) -> int:
        if file.file.tell() + memoryview(chunk).nbytes > free:
            file.error = OSError(number, os.strerror(number))
            raise file.error
        return file.file.write(chunk)

    monkeypatch.setattr(files._Watched, "write", write)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_stops_the_worker_and_says_what_is_needed(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    often = seeds(replace(config, checkpoint_minutes=0), 2)
    with monkeypatch.context() as patch:
        full_after(patch, 50_000, number)
        with pytest.raises(DiskFull, match="resume.pt: .+MB is needed, .+ MB is free") as full:
            run(often, runs_dir=tmp_path, slots=2)
    folders = [RunFolder.of(one, tmp_path) for one in often]
    assert [folder.state() for folder in folders] == [State.INTERRUPTED] * 2
    assert [attempts.last(folder.path) for folder in folders] != [None, None]
    for folder in folders:
        assert (attempts.last(folder.path) or {})["ended"] == "stopped"
        assert not folder.failure()
    assert not left(tmp_path)
    outcomes = run(often, runs_dir=tmp_path)
    assert [one.state for one in outcomes] == [State.DONE] * 2
    assert full.value.needed
    assert 2_400_000 < full.value.needed < 4_000_000, "weights and two moments of 201,230"


@pytest.mark.parametrize("what", ["predictions.npz", "best_val_acc.pt"])
def test_a_result_that_does_not_fit_is_not_half_there(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with monkeypatch.context() as patch:
        full_after(patch, 900_000 if what == "predictions.npz" else 100_000)
        if what == "predictions.npz":
            full_after(patch, 10_000)
            tiny = replace(tiny, keep_checkpoints="none")
        with pytest.raises(DiskFull, match=what):
            run([tiny], runs_dir=tmp_path)
    folder = RunFolder.of(tiny, tmp_path)
    assert folder.state() == State.INTERRUPTED
    assert not left(tmp_path)
    assert not (folder.path / what).exists()


def test_what_is_needed_is_what_would_have_been_written(tmp_path: Path) -> None:
    def save(file: IO[bytes]) -> None:
        torch.save({"a": torch.zeros(1000)}, file)

    files.write(tmp_path / "a", save)
    with pytest.MonkeyPatch.context() as patch:
        full_after(patch, 500)
        with pytest.raises(DiskFull) as full:
            files.write(tmp_path / "b", save)
    assert full.value.needed == (tmp_path / "a").stat().st_size
    assert os.listdir(tmp_path) == ["a"]


_ON_A_SMALL_DISK = """
mount -t tmpfs -o size={size} none "$1" || exit 77
{python} src/main.py -d synthetic -m cifar10net -e 3 -b 50 --max_images 300 -l 0.001 \
  --checkpoint_minutes 0 --runs "$1/runs"
status=$?
ls -A "$1"/runs/*/*
cat "$1"/runs/*/*/attempts/1.json
exit $status
"""


def on_a_small_disk(folder: Path, size: str) -> "subprocess.CompletedProcess[str]":
    script = _ON_A_SMALL_DISK.format(size=size, python=sys.executable)
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", script, "bash", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    done = on_a_small_disk(tmp_path, "1M")
    if done.returncode in (1, 77) and "Error" not in done.stderr and "error:" not in done.stderr:
        pytest.skip(f"needs a file system of its own: {done.stderr}")
    assert done.returncode == ExitStatus.SOME_RUNS_FAILED, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert f"error: {tmp_path}/runs/cifar10net/" in line
    assert "No space left on device: about 3." in line
    assert "MB is free there; make room, and the same command goes on" in line
    assert "Traceback" not in done.stderr
    assert '"ended": "stopped"' in done.stdout
    assert ".writing" not in done.stdout
    assert "resume.pt" not in done.stdout


# nodes


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
    ],
)
def test_node_trouble_stops_the_worker_and_is_counted(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    runs = seeds(tiny, 3)
    first, second, third = (RunFolder.of(one, tmp_path) for one in runs)
    with monkeypatch.context() as patch:
        failing(patch, {0: error})
        with pytest.raises(NodeTrouble, match="trouble of node n7: ") as once:
            run(runs, runs_dir=tmp_path, slots=2, retries=2)
        assert isinstance(once.value, Stopped)
        assert once.value.exclude == ()
        assert [folder.state() for folder in (first, second, third)] == [
            State.FAILED,
            State.INTERRUPTED,
            State.PENDING,
        ]
        failure = first.failure()
        assert failure
        assert (failure["cause"], failure["retry"]) == ("node trouble", True)
        record = attempts.last(first.path) or {}
        assert (record["ended"], record["cause"], record["node"]) == (
            *("failed", "node trouble"),
            "n7",
        )
        with pytest.raises(NodeTrouble) as twice:
            run(runs, runs_dir=tmp_path, slots=2, retries=2)
        assert twice.value.exclude == ("n7",)
        with pytest.raises(NodeTrouble):
            run(runs, runs_dir=tmp_path, slots=2, retries=2)
        outcomes = run(runs, runs_dir=tmp_path, slots=2, retries=2)
    assert [one.state for one in outcomes] == [State.FAILED, State.DONE, State.DONE]
    assert attempts.failures(first.path) == 3, "retries are bounded"


def test_trouble_that_no_run_can_tell_of_counts_as_repeated(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n7")

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(RunFolder, "write_failure", broken)
    failing(monkeypatch, {0: OSError(errno.EIO, "Input/output error")})
    with pytest.raises(NodeTrouble) as ended:
        run([tiny], runs_dir=tmp_path)
    assert ended.value.exclude == ("n7",)
    assert RunFolder.of(tiny, tmp_path).state() == State.INTERRUPTED
    assert troubled_nodes(tmp_path) == []


def test_a_gpu_that_slurm_gave_and_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_NVIDIA_DRIVER", tmp_path)
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    monkeypatch.delenv("SLURM_JOB_GPUS", raising=False)
    assert device.pick_device("auto").type == "cpu"
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    assert device.pick_device("cpu").type == "cpu"
    with pytest.raises(NodeTrouble, match="no GPU of this job") as ended:
        device.pick_device("auto")
    assert ended.value.exclude == ("n7",)
    monkeypatch.setattr(device, "_NVIDIA_DRIVER", tmp_path / "none")
    assert device.pick_device("auto").type == "cpu", "a rehearsal, with GPUs that are none"


def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excluded: str) -> Path:
    """A scontrol and a squeue for a job that runs until it is requeued; what was asked of them."""
    asked = tmp_path / "asked"
    bodies = {
        "squeue": "echo RUNNING",
        "scontrol": f'echo "$*" >>{asked}; [ "$2" = show ] || exit 0; '
        f"echo 'JobId=12 ExcNodeList={excluded} x'",
    }
    for name, body in bodies.items():
        body = body if name == "squeue" else body.replace('"$2" = show', '"$*" = "${*/show/}x"')
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    return asked
