"""Reaction of a worker to each failure class, in this process and from the command line."""

import errno
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest
import torch

from src import data
from src.cli.entry_point import run_main
from src.common import file_retries, files, paths, signals
from src.common.errors import (
    DiskFull,
    ExitStatus,
    NodeFailure,
    Restart,
    RestartNeeded,
    Stopped,
    SweepStopped,
)
from src.common.file_retries import retry_write
from src.common.temporary_files import ErrorKeepingFile
from src.config import RunConfig
from src.data.dataset import Dataset
from src.faults.circuit_breaker import find_repeated_failure
from src.faults.job_restarts import restart_of_workers
from src.faults.node_health import bad_nodes
from src.run import RunOptions, run
from src.runs import leases
from src.runs.run_folder import RunFolder, State
from src.slurm import job_control
from src.slurm.requeue import MAX_WITHOUT_PROGRESS
from src.sweep import sets
from src.sweep.commands import retry, submit
from src.sweep.status.failures import kind_of
from src.training import device
from src.training.console import SilentDisplay
from src.training.learner import Learner
from src.training.trainer import Trainer
from tests.conftest import RunCommand


@pytest.fixture(autouse=True)
def _small_dataset(monkeypatch: pytest.MonkeyPatch, small_dataset: Dataset) -> None:
    monkeypatch.setattr(data, "load", lambda path, name: small_dataset)


@pytest.fixture
def tiny(config: RunConfig) -> RunConfig:
    return replace(config, num_epochs=1, max_images=100)


def seeds(config: RunConfig, count: int) -> list[RunConfig]:
    return [replace(config, seed=seed) for seed in range(count)]


def inject_errors(monkeypatch: pytest.MonkeyPatch, errors: dict[int, Exception]) -> None:
    """Make runs with the given seeds raise the given errors in their second step."""
    step = Trainer.advance

    def advance(trainer: Trainer) -> bool:
        if trainer.config.seed in errors and trainer.state.step == 1:
            raise errors[trainer.config.seed]
        return step(trainer)

    monkeypatch.setattr(Trainer, "advance", advance)


def temporary_files(runs: Path) -> list[str]:
    return [path.name for path in runs.rglob(".writing-*")]


class Notes(SilentDisplay):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


# memory


def test_too_large_model_is_put_back_then_fails_with_memory_amounts(
    tiny: RunConfig, tmp_path: Path
) -> None:
    """A real allocation failure: the second layer would take 3.6 TB."""
    too_large = replace(tiny, model_type="tinyvgg", hidden_units=300_000)
    notes = Notes()
    failed, fine = run(
        [too_large, tiny],
        runs_dir=tmp_path,
        options=RunOptions(slots=2, display=lambda total: notes),
    )
    assert (failed.state, fine.state) == (State.FAILED, State.DONE)
    assert notes.lines == [f"{too_large.name}: out of memory, put back; from now on 1 at a time"]
    failure = failed.failure
    assert failure
    assert (failure["cause"], failure["kind"]) == ("out of memory", "OutOfMemory")
    assert "asked for 3,240.0 GB more" in failure["message"]
    assert "were free" in failure["message"]
    assert "can't allocate memory" in failure["traceback"], "the traceback must include the cause"
    assert kind_of(failure) == "out of memory"
    assert leases.count_failed_attempts(failed.folder) == 1, (
        "a run that is put back does not count as failed"
    )
    again = run([too_large], runs_dir=tmp_path, options=RunOptions(retries=0))
    assert again[0].failure == failure, "retries are bounded"


def test_run_put_back_after_out_of_memory_gives_same_result(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solo_outcomes = run(seeds(config, 2), runs_dir=tmp_path / "alone")
    step, failed_learners = Learner.train_batch, list[Learner]()

    def train_or_run_out_of_memory(learner: Learner, epoch: int, number: int) -> None:
        if learner.config.seed == 1 and epoch == 1 and not failed_learners:
            failed_learners.append(learner)
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(learner, epoch, number)

    monkeypatch.setattr(Learner, "train_batch", train_or_run_out_of_memory)
    slot_outcomes = run(seeds(config, 2), runs_dir=tmp_path / "beside", options=RunOptions(slots=2))
    assert failed_learners
    for item, other in zip(solo_outcomes, slot_outcomes, strict=True):
        assert item.result
        assert other.result
        assert (other.failure, other.result["attempt"]) == (None, 1)
        for name in ("best_val_accuracy", "train_loss", "test_loss_terminal", "epochs_run"):
            assert item.result[name] == other.result[name]


# disk


def limit_file_size(monkeypatch: pytest.MonkeyPatch, free: int, number: int = errno.ENOSPC) -> None:
    """Make every write beyond `free` bytes of a file fail with an error number."""

    def write(file: ErrorKeepingFile, chunk: Any) -> int:
        if file.file.tell() + memoryview(chunk).nbytes > free:
            file.error = OSError(number, os.strerror(number))
            raise file.error
        return file.file.write(chunk)

    monkeypatch.setattr(ErrorKeepingFile, "write", write)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_interrupts_runs_and_reports_needed_bytes(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    configs = seeds(replace(config, checkpoint_minutes=0), 2)
    with monkeypatch.context() as patch:
        limit_file_size(patch, 50_000, number)
        with pytest.raises(DiskFull, match=r"resume.pt: .+ kB is needed, .+ [MG]B is free") as full:
            run(configs, runs_dir=tmp_path, options=RunOptions(slots=2))
    folders = [RunFolder.of(item, tmp_path) for item in configs]
    assert [folder.state() for folder in folders] == [State.INTERRUPTED] * 2
    assert [leases.latest(folder.path) for folder in folders] != [None, None]
    for folder in folders:
        assert (leases.latest(folder.path) or {})["ended"] == "stopped"
        assert not folder.failure()
    assert not temporary_files(tmp_path)
    outcomes = run(configs, runs_dir=tmp_path)
    assert [item.state for item in outcomes] == [State.DONE] * 2
    assert full.value.needed
    assert 4 * 201_230 < full.value.needed < 4 * 201_230 + 100_000, (
        "a checkpoint at step 0 is about the size of the weights"
    )


@pytest.mark.parametrize("file_name", ["predictions.npz", "best_val_acc.pt"])
def test_full_disk_leaves_no_partial_result_file(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_name: str
) -> None:
    keep_checkpoints = {"predictions.npz": "none", "best_val_acc.pt": "best"}
    tiny = replace(tiny, keep_checkpoints=keep_checkpoints[file_name])
    with monkeypatch.context() as patch:
        limit_file_size(patch, 4_000)
        with pytest.raises(DiskFull, match=file_name):
            run([tiny], runs_dir=tmp_path)
    folder = RunFolder.of(tiny, tmp_path)
    assert folder.state() == State.INTERRUPTED
    assert not temporary_files(tmp_path)
    assert not (folder.path / file_name).exists()


def test_disk_full_error_has_exact_needed_size(tmp_path: Path) -> None:
    def save(file: IO[bytes]) -> None:
        torch.save({"a": torch.zeros(1000)}, file)

    files.write(tmp_path / "a", save)
    with pytest.MonkeyPatch.context() as patch:
        limit_file_size(patch, 500)
        with pytest.raises(DiskFull) as full:
            files.write(tmp_path / "b", save)
    assert full.value.needed == (tmp_path / "a").stat().st_size
    assert os.listdir(tmp_path) == ["a"]


_SMALL_DISK_SCRIPT = """
mount -t tmpfs -o size=1M none "$0" || exit
"$@" --runs "$0/runs"
status=$?
ls -A "$0"/runs/*/*
cat "$0"/runs/*/*/attempts/1.json
exit $status
"""


def test_full_tmpfs_gives_one_line_error_and_keeps_checkpoint(
    command: RunCommand, private_mounts: tuple[str, ...], tmp_path: Path
) -> None:
    prefix = (*private_mounts, "bash", "-c", _SMALL_DISK_SCRIPT, tmp_path)
    main = (sys.executable, "src/main.py", "-d", "synthetic", "-m", "cifar10net", "-b", 50, "-e", 3)
    arguments = (*prefix, *main, "--max_images", 300, "--checkpoint_minutes", 0)
    completed = command(*arguments, check=None)
    assert completed.returncode == ExitStatus.SOME_RUNS_FAILED, completed.stderr
    [line] = [line for line in completed.stderr.splitlines() if line.startswith("error:")]
    assert f"error: {tmp_path}/runs/cifar10net/" in line
    assert "No space left on device: about 3." in line
    assert "kB is free there; free some space, then run the same command again" in line
    assert "Traceback" not in completed.stderr
    assert '"ended": "stopped"' in completed.stdout
    assert ".writing" not in completed.stdout
    assert "resume.pt" in completed.stdout, "the first checkpoint fits and is kept"


# nodes


def test_node_failure_stops_worker_and_second_makes_node_bad(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    runs = seeds(tiny, 3)
    first, second, third = (RunFolder.of(item, tmp_path) for item in runs)
    with monkeypatch.context() as patch:
        inject_errors(patch, {0: RuntimeError("CUDA error: uncorrectable ECC error encountered")})
        with pytest.raises(NodeFailure, match="node trouble on node n7: ") as caught:
            run(runs, runs_dir=tmp_path, options=RunOptions(slots=2, retries=2))
        assert isinstance(caught.value, Stopped)
        assert bad_nodes(tmp_path) == []
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
        for _ in range(2):
            with pytest.raises(NodeFailure):
                run(runs, runs_dir=tmp_path, options=RunOptions(slots=2, retries=2))
            assert bad_nodes(tmp_path) == ["n7"]
        outcomes = run(runs, runs_dir=tmp_path, options=RunOptions(slots=2, retries=2))
    assert [item.state for item in outcomes] == [State.FAILED, State.DONE, State.DONE]
    assert leases.count_failed_attempts(first.path) == 3, "retries are bounded"


def test_lost_cuda_context_stops_worker_blames_no_node_and_opens_circuit_breaker(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of a kernel fails on every node: three runs with it stop the sweep."""
    runs = seeds(tiny, 5)
    inject_errors(
        monkeypatch,
        {n: RuntimeError("CUDA error: an illegal memory access was encountered") for n in range(5)},
    )
    for number in range(3):
        monkeypatch.setenv("SLURMD_NODENAME", f"n{number}")
        with pytest.raises(RestartNeeded, match=f"CUDA error on node n{number}: ") as caught:
            run(runs, runs_dir=tmp_path, options=RunOptions(retries=0))
        assert not isinstance(caught.value, NodeFailure)
    assert bad_nodes(tmp_path) == []
    failures = [RunFolder.of(item, tmp_path).failure() for item in runs[:3]]
    assert [failure and failure["cause"] for failure in failures] == ["CUDA error"] * 3
    with pytest.raises(SweepStopped, match="3 runs failed with the same traceback"):
        run(runs, runs_dir=tmp_path, options=RunOptions(retries=0))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_failing_file_system_is_waited_for(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Every third fsync fails, for a write as for the folder that it is in."""
    fsync, calls = os.fsync, itertools.count(1)

    def failing(descriptor: int) -> None:
        if next(calls) % 3 == 0:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(retry_write, "pauses", (0.0, 0.0))
    monkeypatch.setattr(os, "fsync", failing)
    [outcome] = run([tiny], runs_dir=tmp_path)
    assert next(calls) > 15
    assert outcome.state == State.DONE
    assert len(list((outcome.folder / "attempts").iterdir())) == 1
    assert temporary_files(tmp_path) == []


def test_file_system_that_keeps_failing_stops_worker_and_blames_no_node(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(file_retries.time, "sleep", pauses.append)
    with monkeypatch.context() as patch:
        patch.setattr(
            RunFolder, "write_history", lambda self, *_, **__: files.write(self.path / "h", full)
        )
        with pytest.raises(
            RestartNeeded, match=r"file system error on node .*Input/output"
        ) as caught:
            run([tiny], runs_dir=tmp_path)
    assert not isinstance(caught.value, NodeFailure)
    assert 250 < sum(pauses) < 350, "it is waited for five minutes, and only once"
    folder = RunFolder.of(tiny, tmp_path)
    assert folder.state() == State.INTERRUPTED
    assert folder.failure() is None
    assert bad_nodes(tmp_path) == []
    assert run([tiny], runs_dir=tmp_path)[0].state == State.DONE


def test_job_is_requeued_although_the_file_system_fails_for_its_restarts_too(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "one")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    monkeypatch.setattr(file_retries.time, "sleep", lambda seconds: None)
    read = files.read_bytes

    def failing(path: Path | str) -> bytes:
        if paths.slurm_jobs_dir(tmp_path) in Path(path).parents:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return read(path)

    monkeypatch.setattr(files, "read_bytes", failing)
    with pytest.raises(Stopped) as caught:
        run([tiny], runs_dir=tmp_path, options=RunOptions(stop=lambda: True))
    assert caught.value.restart == Restart()
    assert restart_of_workers(tmp_path, 2) == Restart()


@pytest.mark.parametrize("function", ["read_bytes", "names_in"])
def test_file_system_that_fails_while_folders_are_read_asks_for_a_restart(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """Before the first run, or after the last one: the job is requeued as it is between them."""
    run([tiny], runs_dir=tmp_path)

    def failing(path: Path | str) -> NoReturn:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    monkeypatch.setattr(files, function, failing)
    with pytest.raises(RestartNeeded, match="file system error on node"):
        run([tiny], runs_dir=tmp_path)


def full(file: IO[bytes]) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_missing_gpu_of_slurm_job_is_node_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_NVIDIA_DRIVER", tmp_path)
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    monkeypatch.delenv("SLURM_JOB_GPUS", raising=False)
    assert device.pick_device("auto").type == "cpu"
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    assert device.pick_device("cpu").type == "cpu"
    with pytest.raises(NodeFailure, match="node n7: no GPU of this job"):
        device.pick_device("auto")
    monkeypatch.setattr(device, "_NVIDIA_DRIVER", tmp_path / "none")
    assert device.pick_device("auto").type == "cpu", (
        "without the NVIDIA driver the job is a rehearsal without GPUs"
    )


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Pose as job 12 with given excluded nodes; return the log of fake scontrol calls."""

    def begin(excluded: str) -> Path:
        calls = tmp_path / "calls"
        job_info = f"JobId=12 ExcNodeList={excluded} ReqB:S:C:T=0:0:*:*"
        bodies = {
            "squeue": "echo RUNNING",
            "scontrol": f"echo $* >>{calls}\n"
            "[[ $* == *hostnames* ]] && { echo $3 | sed 's/n\\[1-3]/n1 n2 n3/'; exit; }\n"
            f"[[ $* == *show* ]] && echo '{job_info}'\nexit 0",
        }
        for name, body in bodies.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "12")
        monkeypatch.setenv("REQUEUE_ON_STOP", "1")
        monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
        return calls

    before = signal.getsignal(signal.SIGTERM)
    yield begin
    signal.signal(signal.SIGTERM, before)


def exit_status_of(main: Callable[..., ExitStatus]) -> int:
    with pytest.raises(SystemExit) as exit_:
        run_main(main)
    return int(exit_.value.code or 0)


@pytest.mark.parametrize(
    ("restart", "before", "update"),
    [
        (Restart(), "n1", []),
        (Restart(exclude=("n7",)), "(null)", ["update jobid=12 excnodelist=n7"]),
        (
            Restart(exclude=("n7", "n8")),
            "n[1-3]",
            ["update jobid=12 excnodelist=n[1-3],n7,n8"],
        ),
        (Restart(readmit=("n2",)), "n[1-3]", ["update jobid=12 excnodelist=n1,n3"]),
        (Restart(readmit=("n2",)), "n2", ["update jobid=12 excnodelist="]),
        (Restart(exclude=("n7",), readmit=("n2",)), "n2", ["update jobid=12 excnodelist=n7"]),
    ],
)
def test_requeued_job_avoids_bad_nodes_and_may_use_recovered_ones(
    job: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    restart: Restart,
    before: str,
    update: list[str],
) -> None:
    scontrol_log = job(before)

    def main(arguments: object) -> ExitStatus:
        failure = NodeFailure("node trouble on node n7: ECC")
        failure.restart = restart
        raise failure

    assert exit_status_of(main) == ExitStatus.STOPPED
    scontrol_calls = [line for line in scontrol_log.read_text().splitlines() if "show" not in line]
    assert scontrol_calls == ["requeue 12", *update], (
        "the update must follow the requeue, since only pending jobs accept it"
    )
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("node trouble on node n7: ECC; the same command continues its runs")


def test_excluded_nodes_are_kept_if_slurm_does_not_tell_them(
    job: Callable[[str], Path], tmp_path: Path
) -> None:
    scontrol_log = job("n1")
    (tmp_path / "scontrol").write_text(
        f"#!/bin/bash\necho $* >>{scontrol_log}\n[[ $1 == update ]]\n"
    )
    assert job_control.change_excluded_nodes("12", add=["n7"]) is None
    assert "update" not in scontrol_log.read_text()


def test_job_without_progress_is_not_requeued_for_ever(
    job: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    scontrol_log = job("(null)")

    def main(arguments: object) -> ExitStatus:
        stopped = Stopped()
        stopped.restart = Restart(without_progress=MAX_WITHOUT_PROGRESS)
        raise stopped

    assert exit_status_of(main) == ExitStatus.STOPPED
    assert not scontrol_log.exists()
    assert "job 12 is not requeued: it has started 5 times in a row" in capsys.readouterr().err


def test_interrupt_from_keyboard_requeues_nothing(
    job: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol_log = job("(null)")
    monkeypatch.setattr(signals, "_last_received", None)

    def main(arguments: object) -> ExitStatus:
        stop = signals.StopSignal()
        stop._record(signal.SIGINT, None)
        assert stop()
        raise Stopped

    before = signal.getsignal(signal.SIGINT)
    try:
        assert exit_status_of(main) == ExitStatus.STOPPED
    finally:
        signal.signal(signal.SIGINT, before)
    assert not scontrol_log.exists()


def test_stop_by_signal_requeues_without_excluding_nodes(
    job: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    scontrol_log = job("(null)")

    def main(arguments: object) -> ExitStatus:
        raise Stopped

    assert exit_status_of(main) == ExitStatus.STOPPED
    assert scontrol_log.read_text() == "requeue 12\n"
    assert "by a signal; everything is saved" in capsys.readouterr().err


# circuit breaker: several runs with the same traceback


@pytest.fixture
def inject_bug(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that gives runs with certain seeds the same bug, with varied messages."""
    step = Trainer.save_if_due

    def begin(*seeds: int) -> None:
        def save_if_due(trainer: Trainer) -> None:
            if trainer.config.seed in seeds and trainer.state.step == 2:
                raise KeyError(f"layer {trainer.config.seed}")
            step(trainer)

        monkeypatch.setattr(Trainer, "save_if_due", save_if_due)

    return begin


def test_three_runs_with_same_traceback_stop_sweep(
    tiny: RunConfig, tmp_path: Path, inject_bug: Callable[..., None]
) -> None:
    runs = seeds(tiny, 6)
    inject_bug(*range(6))
    with pytest.raises(SweepStopped) as stopped:
        run(runs, runs_dir=tmp_path / "my runs")
    folders = [RunFolder.of(item, tmp_path / "my runs") for item in runs]
    states = [folder.state() for folder in folders]
    assert states == [State.FAILED] * 3 + [State.PENDING] * 3
    [line] = str(stopped.value).splitlines()
    assert "3 runs failed with the same traceback" in line
    assert "KeyError: 'layer " in line
    for folder in folders[:3]:
        assert folder.path.name in line
    assert f"src.sweep retry --all --kind KeyError --runs '{tmp_path}/my runs'" in line

    with pytest.raises(SweepStopped):  # also for a worker that starts later, and for `submit`
        run(runs, runs_dir=tmp_path / "my runs")
    assert [folder.state() for folder in folders] == states
    inject_bug()
    outcomes = run(runs, runs_dir=tmp_path / "my runs", options=RunOptions(retry_failed=True))
    assert [item.state for item in outcomes] == [State.DONE] * 6


def test_old_failures_do_not_stop_the_sweep_in_which_they_are_retried(
    tiny: RunConfig, tmp_path: Path, inject_bug: Callable[..., None]
) -> None:
    runs = seeds(tiny, 6)
    inject_bug(*range(6))
    for some in (runs[:3], runs[3:]):
        with pytest.raises(SweepStopped):
            run(some, runs_dir=tmp_path)
    again = RunOptions(retry_failed=True)
    with pytest.raises(SweepStopped, match="3 runs failed with the same traceback"):
        run(runs, runs_dir=tmp_path, options=again)
    inject_bug()
    with pytest.MonkeyPatch.context() as patch:
        inject_errors(patch, {0: ValueError("another bug")})
        outcomes = run(runs, runs_dir=tmp_path, options=again)
    assert [item.state for item in outcomes] == [State.FAILED] + [State.DONE] * 5


def test_open_runs_are_saved_when_sweep_stops(
    config: RunConfig, tmp_path: Path, inject_bug: Callable[..., None]
) -> None:
    runs = seeds(config, 5)
    inject_bug(0, 1, 2)
    with pytest.raises(SweepStopped):
        run(runs, runs_dir=tmp_path, options=RunOptions(slots=5))
    states = [RunFolder.of(item, tmp_path).state() for item in runs]
    assert states == [State.FAILED] * 3 + [State.INTERRUPTED] * 2
    assert len(list(tmp_path.glob("*/*/resume.pt"))) == 2


@pytest.mark.parametrize("retry_failed", [False, True])
def test_success_between_failures_keeps_sweep_running(
    tiny: RunConfig, tmp_path: Path, inject_bug: Callable[..., None], retry_failed: bool
) -> None:
    inject_bug(0, 1, 3, 4)
    options = RunOptions(retry_failed=retry_failed)
    outcomes = run(seeds(tiny, 6), runs_dir=tmp_path, options=options)
    assert [item.state == State.DONE for item in outcomes] == [False, False, True] * 2


def test_circuit_breaker_counts_failures_of_other_workers(
    tiny: RunConfig, tmp_path: Path, inject_bug: Callable[..., None]
) -> None:
    runs = seeds(tiny, 5)
    inject_bug(*range(5))
    run(runs[:1], runs_dir=tmp_path)
    run(runs[1:2], runs_dir=tmp_path)
    with pytest.raises(SweepStopped):
        run(runs, runs_dir=tmp_path, options=RunOptions(retries=0))
    failed = [RunFolder.of(item, tmp_path).state() == State.FAILED for item in runs]
    assert failed == [True] * 3 + [False] * 2


def test_divergence_and_different_tracebacks_do_not_stop_sweep(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [replace(item, learning_rate=1e30, precision="float32") for item in seeds(tiny, 4)]
    assert {item.state for item in run(bad, runs_dir=tmp_path / "a")} == {State.FAILED}
    inject_errors(monkeypatch, {0: KeyError(), 1: ValueError(), 2: TypeError(), 3: IndexError()})
    assert {item.state for item in run(seeds(tiny, 4), runs_dir=tmp_path / "b")} == {State.FAILED}
    assert (
        find_repeated_failure(RunFolder.of(item, tmp_path / "b").path for item in seeds(tiny, 4))
        is None
    )


def test_submit_refuses_until_retry_after_repeated_failures(
    tiny: RunConfig,
    tmp_path: Path,
    inject_bug: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = seeds(tiny, 5)
    sets.write([runs], tmp_path / "sets")
    where = ["--runs", str(tmp_path / "runs")]
    arguments = ["--sets", str(tmp_path / "sets"), *where, "--executor", "inline"]
    inject_bug(*range(5))
    monkeypatch.setattr(sys, "argv", ["submit", *arguments])
    assert exit_status_of(submit.main) == ExitStatus.SOME_RUNS_FAILED
    first = capsys.readouterr().err
    assert len(list(tmp_path.glob("runs/*/*/attempts/*.json"))) == 3
    assert exit_status_of(submit.main) == ExitStatus.SOME_RUNS_FAILED
    [line] = capsys.readouterr().err.splitlines()
    assert line in first
    assert line.startswith("error: 3 runs failed with the same traceback")
    assert len(list(tmp_path.glob("runs/*/*/attempts/*.json"))) == 3

    inject_bug()
    assert submit.main([*arguments, "--dry-run", "--retry-failed"]) == ExitStatus.DONE
    retry.main(["--all", "--kind", "KeyError", *where])
    assert submit.main(arguments) == ExitStatus.DONE
    assert len(list(tmp_path.glob("runs/*/*/result.json"))) == 5
