"""What a worker does about each cause of a failure, in this process and from the command line."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from src import data
from src.cli.entry_point import run_main
from src.common import files
from src.common.errors import DiskFull, ExitStatus, NodeFailure, Stopped, SweepStopped
from src.config import RunConfig
from src.data.dataset import Dataset
from src.faults.circuit_breaker import find_repeated_failure
from src.faults.node_health import bad_nodes
from src.run import RunOptions, run
from src.runs import leases
from src.runs.run_folder import RunFolder, State
from src.sweep import sets
from src.sweep.commands import retry, submit
from src.sweep.status.failures import kind_of
from src.training import device
from src.training.console import SilentDisplay
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
        if trainer.config.seed in errors and trainer.state.step == 1:
            raise errors[trainer.config.seed]
        return step(trainer)

    monkeypatch.setattr(Trainer, "advance", advance)


def left(runs: Path) -> list[str]:
    return [path.name for path in runs.rglob(".writing-*")]


class Notes(SilentDisplay):
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
    broken, fine = run(
        [huge, tiny], runs_dir=tmp_path, options=RunOptions(slots=2, display=lambda total: notes)
    )
    assert (broken.state, fine.state) == (State.FAILED, State.DONE)
    assert notes.lines == [f"{huge.name}: out of memory, put back; from now on 1 at a time"]
    failure = broken.failure
    assert failure
    assert (failure["cause"], failure["kind"]) == ("out of memory", "OutOfMemory")
    assert "asked for 3,240,000.0 MB more" in failure["message"]
    assert "were free" in failure["message"]
    assert "can't allocate memory" in failure["traceback"], "the cause is told too"
    assert kind_of(failure) == "out of memory"
    assert leases.count_failed_attempts(broken.folder) == 1, "what was put back has not failed"
    again = run([huge], runs_dir=tmp_path, options=RunOptions(retries=0))
    assert again[0].failure == failure, "retries are bounded"


def test_a_run_put_back_gives_the_result_that_it_gives_alone(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run(seeds(config, 2), runs_dir=tmp_path / "alone")
    step, starved = Learner.train_batch, list[Learner]()

    def starving(learner: Learner, epoch: int, number: int) -> None:
        if learner.config.seed == 1 and epoch == 1 and not starved:
            starved.append(learner)
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(learner, epoch, number)

    monkeypatch.setattr(Learner, "train_batch", starving)
    beside = run(seeds(config, 2), runs_dir=tmp_path / "beside", options=RunOptions(slots=2))
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
        with pytest.raises(DiskFull, match=r"resume.pt: .+ is needed, .+ MB is free") as full:
            run(often, runs_dir=tmp_path, options=RunOptions(slots=2))
    folders = [RunFolder.of(one, tmp_path) for one in often]
    assert [folder.state() for folder in folders] == [State.INTERRUPTED] * 2
    assert [leases.latest(folder.path) for folder in folders] != [None, None]
    for folder in folders:
        assert (leases.latest(folder.path) or {})["ended"] == "stopped"
        assert not folder.failure()
    assert not left(tmp_path)
    outcomes = run(often, runs_dir=tmp_path)
    assert [one.state for one in outcomes] == [State.DONE] * 2
    assert full.value.needed
    assert 4 * 201_230 < full.value.needed < 4 * 201_230 + 100_000, "weights; no step is done"


@pytest.mark.parametrize("what", ["predictions.npz", "best_val_acc.pt"])
def test_a_result_that_does_not_fit_is_not_half_there(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    keep = {"predictions.npz": "none", "best_val_acc.pt": "best"}
    tiny = replace(tiny, keep_checkpoints=keep[what])
    with monkeypatch.context() as patch:
        full_after(patch, 4_000)
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
mount -t tmpfs -o size=1M none "$0" || exit
"$@" --runs "$0/runs"
status=$?
ls -A "$0"/runs/*/*
cat "$0"/runs/*/*/attempts/1.json
exit $status
"""


def test_a_disk_that_is_really_full(
    command: Run, own_mounts: tuple[str, ...], tmp_path: Path
) -> None:
    alone = (*own_mounts, "bash", "-c", _ON_A_SMALL_DISK, tmp_path)
    main = (sys.executable, "src/main.py", "-d", "synthetic", "-m", "cifar10net", "-b", 50, "-e", 3)
    words = (*alone, *main, "--max_images", 300, "--checkpoint_minutes", 0)
    done = command(*words, check=None)
    assert done.returncode == ExitStatus.SOME_RUNS_FAILED, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert f"error: {tmp_path}/runs/cifar10net/" in line
    assert "No space left on device: about 3." in line
    assert "kB is free there; make room, and the same command goes on" in line
    assert "Traceback" not in done.stderr
    assert '"ended": "stopped"' in done.stdout
    assert ".writing" not in done.stdout
    assert "resume.pt" in done.stdout, "that of the beginning fits, and stays"


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
        with pytest.raises(NodeFailure, match="trouble of node n7: ") as once:
            run(runs, runs_dir=tmp_path, options=RunOptions(slots=2, retries=2))
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
        record = leases.latest(first.path) or {}
        assert (record["ended"], record["cause"], record["node"]) == (
            *("failed", "node trouble"),
            "n7",
        )
        with pytest.raises(NodeFailure) as twice:
            run(runs, runs_dir=tmp_path, options=RunOptions(slots=2, retries=2))
        assert twice.value.exclude == ("n7",)
        with pytest.raises(NodeFailure):
            run(runs, runs_dir=tmp_path, options=RunOptions(slots=2, retries=2))
        outcomes = run(runs, runs_dir=tmp_path, options=RunOptions(slots=2, retries=2))
    assert [one.state for one in outcomes] == [State.FAILED, State.DONE, State.DONE]
    assert leases.count_failed_attempts(first.path) == 3, "retries are bounded"


def test_trouble_that_no_run_can_tell_of_counts_as_repeated(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n7")

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(RunFolder, "write_failure", broken)
    failing(monkeypatch, {0: OSError(errno.EIO, "Input/output error")})
    with pytest.raises(NodeFailure) as ended:
        run([tiny], runs_dir=tmp_path)
    assert ended.value.exclude == ("n7",)
    assert RunFolder.of(tiny, tmp_path).state() == State.INTERRUPTED
    assert bad_nodes(tmp_path) == []


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
    with pytest.raises(NodeFailure, match="no GPU of this job") as ended:
        device.pick_device("auto")
    assert ended.value.exclude == ("n7",)
    monkeypatch.setattr(device, "_NVIDIA_DRIVER", tmp_path / "none")
    assert device.pick_device("auto").type == "cpu", "a rehearsal, with GPUs that are none"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Be job 12, which must not run on some nodes anyway; what Slurm is asked to do, by line."""

    def begin(excluded: str) -> Path:
        asked, told = tmp_path / "asked", f"JobId=12 ExcNodeList={excluded} ReqB:S:C:T=0:0:*:*"
        bodies = {
            "squeue": "echo RUNNING",
            "scontrol": f"echo $* >>{asked}\n[[ $* == *show* ]] && echo '{told}'\nexit 0",
        }
        for name, body in bodies.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "12")
        monkeypatch.setenv("REQUEUE_ON_STOP", "1")
        monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
        return asked

    before = signal.getsignal(signal.SIGTERM)
    yield begin
    signal.signal(signal.SIGTERM, before)


def ended(main: Callable[..., ExitStatus]) -> int:
    with pytest.raises(SystemExit) as exit_:
        run_main(main)
    return int(exit_.value.code or 0)


@pytest.mark.parametrize(
    ("exclude", "before", "update"),
    [
        ((), "n1", []),
        (("n7",), "(null)", ["update jobid=12 excnodelist=n7"]),
        (("n7", "n8"), "n[1-3]", ["update jobid=12 excnodelist=n[1-3],n7,n8"]),
    ],
)
def test_the_job_goes_on_but_not_on_nodes_that_failed_repeatedly(
    job: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    exclude: tuple[str, ...],
    before: str,
    update: list[str],
) -> None:
    asked = job(before)

    def main(words: object) -> ExitStatus:
        raise NodeFailure("trouble of node n7: ECC", exclude)

    assert ended(main) == ExitStatus.STOPPED
    said = [line for line in asked.read_text().splitlines() if "show" not in line]
    assert said == ["requeue 12", *update], "only a job that waits takes the update"
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("trouble of node n7: ECC; runs are left at their last checkpoints")


def test_a_signal_excludes_nothing(
    job: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = job("(null)")

    def main(words: object) -> ExitStatus:
        raise Stopped

    assert ended(main) == ExitStatus.STOPPED
    assert asked.read_text() == "requeue 12\n"
    assert "by a signal; everything is saved" in capsys.readouterr().err


# the same traceback


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs with these seeds meet one bug from now on, each with a message of its own."""
    step = Trainer.save_if_due

    def begin(*broken: int) -> None:
        def save_if_due(trainer: Trainer) -> None:
            if trainer.config.seed in broken and trainer.state.step == 2:
                raise KeyError(f"layer {trainer.config.seed}")
            step(trainer)

        monkeypatch.setattr(Trainer, "save_if_due", save_if_due)

    return begin


def test_the_same_traceback_over_three_runs_stops_the_sweep(
    tiny: RunConfig, tmp_path: Path, bug: Callable[..., None]
) -> None:
    runs = seeds(tiny, 6)
    bug(*range(6))
    with pytest.raises(SweepStopped) as stopped:
        run(runs, runs_dir=tmp_path / "my runs")
    folders = [RunFolder.of(one, tmp_path / "my runs") for one in runs]
    states = [folder.state() for folder in folders]
    assert states == [State.FAILED] * 3 + [State.PENDING] * 3
    [line] = str(stopped.value).splitlines()
    assert "3 runs failed with the same traceback" in line
    assert "KeyError: 'layer " in line
    for folder in folders[:3]:
        assert folder.path.name in line
    assert f"src.sweep retry --all --kind KeyError --runs '{tmp_path}/my runs'" in line

    with pytest.raises(SweepStopped):  # a worker that begins later, and what `submit` asks
        run(runs, runs_dir=tmp_path / "my runs")
    assert [folder.state() for folder in folders] == states
    bug()
    outcomes = run(runs, runs_dir=tmp_path / "my runs", options=RunOptions(retry_failed=True))
    assert [one.state for one in outcomes] == [State.DONE] * 6


def test_other_open_runs_are_saved_when_the_sweep_stops(
    config: RunConfig, tmp_path: Path, bug: Callable[..., None]
) -> None:
    runs = seeds(config, 5)
    bug(0, 1, 2)
    with pytest.raises(SweepStopped):
        run(runs, runs_dir=tmp_path, options=RunOptions(slots=5))
    states = [RunFolder.of(one, tmp_path).state() for one in runs]
    assert states == [State.FAILED] * 3 + [State.INTERRUPTED] * 2
    assert len(list(tmp_path.glob("*/*/resume.pt"))) == 2


def test_a_success_in_between_lets_the_sweep_go_on(
    tiny: RunConfig, tmp_path: Path, bug: Callable[..., None]
) -> None:
    bug(0, 1, 3, 4)
    outcomes = run(seeds(tiny, 6), runs_dir=tmp_path)
    assert [one.state == State.DONE for one in outcomes] == [False, False, True] * 2


def test_failures_of_other_workers_are_seen(
    tiny: RunConfig, tmp_path: Path, bug: Callable[..., None]
) -> None:
    runs = seeds(tiny, 5)
    bug(*range(5))
    run(runs[:1], runs_dir=tmp_path)
    run(runs[1:2], runs_dir=tmp_path)
    with pytest.raises(SweepStopped):
        run(runs, runs_dir=tmp_path, options=RunOptions(retries=0))
    failed = [RunFolder.of(one, tmp_path).state() == State.FAILED for one in runs]
    assert failed == [True] * 3 + [False] * 2


def test_neither_divergence_nor_tracebacks_that_differ_stop_a_sweep(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [replace(one, learning_rate=1e30, precision="float32") for one in seeds(tiny, 4)]
    assert {one.state for one in run(bad, runs_dir=tmp_path / "a")} == {State.FAILED}
    failing(monkeypatch, {0: KeyError(), 1: ValueError(), 2: TypeError(), 3: IndexError()})
    assert {one.state for one in run(seeds(tiny, 4), runs_dir=tmp_path / "b")} == {State.FAILED}
    assert (
        find_repeated_failure(RunFolder.of(one, tmp_path / "b").path for one in seeds(tiny, 4))
        is None
    )


def test_submit_refuses_until_the_failures_are_forgotten(
    tiny: RunConfig,
    tmp_path: Path,
    bug: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = seeds(tiny, 5)
    sets.write([runs], tmp_path / "sets")
    where = ["--runs", str(tmp_path / "runs")]
    words = ["--sets", str(tmp_path / "sets"), *where, "--executor", "inline"]
    bug(*range(5))
    monkeypatch.setattr(sys, "argv", ["submit", *words])
    assert ended(submit.main) == ExitStatus.SOME_RUNS_FAILED
    first = capsys.readouterr().err
    assert len(list(tmp_path.glob("runs/*/*/attempts/*.json"))) == 3
    assert ended(submit.main) == ExitStatus.SOME_RUNS_FAILED
    [line] = capsys.readouterr().err.splitlines()
    assert line in first
    assert line.startswith("error: 3 runs failed with the same traceback")
    assert len(list(tmp_path.glob("runs/*/*/attempts/*.json"))) == 3

    bug()
    assert submit.main([*words, "--dry-run", "--retry-failed"]) == ExitStatus.DONE
    retry.main(["--all", "--kind", "KeyError", *where])
    assert submit.main(words) == ExitStatus.DONE
    assert len(list(tmp_path.glob("runs/*/*/result.json"))) == 5
