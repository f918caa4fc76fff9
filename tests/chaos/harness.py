"""The disturbed sweep, its forked worker processes, and the comparison of results."""

import faulthandler
import gc
import io
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from src import data, models
from src.cli.entry_point import run_main
from src.common import files, paths
from src.common.git import git_commit
from src.config import RunConfig
from src.runs import aggregate, leases
from src.runs.run_folder import RunFolder
from src.train import TrainingOptions, train
from src.training import trainer
from src.training.trainer import Trainer

BASE = RunConfig(
    base_dataset_path="synthetic",
    model_type="tinyvgg",
    hidden_units=4,
    optimizer="sgd",  # no optimizer state, so that there are few writes to enumerate
    momentum=0.0,
    num_epochs=2,
    batch_size=10,
    max_images=10,
    scheduler="step",
    precision="float32",
    memory_format="contiguous",
)
STEPS_PER_CHECKPOINT = 2  # steps between two resume checkpoints
HEARTBEAT_SECONDS = 0.3
SUCCEEDED = 0
KILLED = -signal.SIGKILL
_PATIENCE_SECONDS = 60.0  # time limit of a worker that needs seconds
_SWEEP_SECONDS = 240.0  # time limit of a worker that trains a whole sweep
_POLL_SECONDS = 0.005
_PRINT_STACKS = signal.SIGUSR2  # makes a worker print the stacks of its threads

Work = Callable[[], object]


class GuaranteeViolated(AssertionError):
    """A guarantee of docs/reliability.md does not hold."""


def sweep(runs: int, epochs: int = 2) -> list[RunConfig]:
    """Return `runs` different configurations that train in milliseconds."""
    rates = [round(0.001 * (1 + number / 100), 6) for number in range(runs)]
    return [replace(BASE, learning_rate=rate, num_epochs=epochs) for rate in rates]


@contextmanager
def prepared() -> Iterator[None]:
    """Prepare this process for forking: load torch and the images, and stop the trainer's clock.

    Checkpoints are written every few steps, and heartbeats every few tenths of a second.
    """

    def save_if_due(self: Trainer) -> None:
        self.advances = getattr(self, "advances", 0) + 1  # type: ignore[attr-defined]
        if self.advances % STEPS_PER_CHECKPOINT == 0:  # type: ignore[attr-defined]
            self._begin_saving()

    stopped = SimpleNamespace(perf_counter=lambda: 0.0, monotonic=lambda: 0.0)
    load = cache(data.load)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # thread pools do not survive a fork
    with (
        mock.patch.object(trainer, "time", stopped),
        mock.patch.object(Trainer, "save_if_due", save_if_due),
        mock.patch.object(data, "load", load),
        mock.patch.object(leases, "HEARTBEAT_SECONDS", HEARTBEAT_SECONDS),
    ):
        load(*BASE.data_key)
        git_commit()  # cached for all workers
        models.create(BASE.model_type)
        _import_what_training_imports()
        is_frozen = gc.get_freeze_count() > 0
        gc.freeze()  # garbage collection in a fork would copy pages
        yield
        if not is_frozen:
            gc.unfreeze()
    torch.set_num_threads(threads)


def _import_what_training_imports() -> None:
    """Import it once, and not in each of hundreds of workers, where it takes a third of a life."""
    import psutil  # noqa: F401
    import torch.nested._internal.nested_tensor

    import src.pruning.pruner
    import src.run
    import src.tracking.wandb_process  # noqa: F401

    with torch.device("meta"):
        torch.save({}, io.BytesIO())


class WorkerProcess:
    """A forked worker process that trains until it is done or dies."""

    def __init__(self, work: Work, log: Path) -> None:
        """Fork a process that calls `work` with its output appended to `log`."""
        self._log = log
        self._started, started_pipe = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._started)
            _run_forked(work, started_pipe, log)
        os.close(started_pipe)

    def has_started(self) -> bool:
        """Wait until the worker trains; return False if it ended before."""
        ready, _, _ = select.select([self._started], [], [], _PATIENCE_SECONDS)
        return bool(ready and os.read(self._started, 1))

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the worker."""
        os.kill(self.pid, number)

    def ended(self, patience: float = _PATIENCE_SECONDS) -> int:
        """Wait for the end and return the exit status, or minus the signal that killed it.

        Raises GuaranteeViolated if the worker does not end within `patience` seconds.
        """
        deadline = time.monotonic() + patience
        ended = status = 0
        while not ended:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if not ended and time.monotonic() > deadline:
                self.kill(_PRINT_STACKS)
                time.sleep(1)
                self.kill()
                os.waitpid(self.pid, 0)
                log_end = self._log.read_text()[-3000:]
                raise GuaranteeViolated(f"a worker hung for {patience:g} seconds:\n{log_end}")
            time.sleep(0 if ended else _POLL_SECONDS)
        os.close(self._started)
        return os.waitstatus_to_exitcode(status)


def _run_forked(work: Work, started_pipe: int, log: Path) -> None:
    """Run `work` in a forked process and exit without the parent's exit handlers."""
    status = 99
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        faulthandler.register(_PRINT_STACKS, file=out)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        start = Trainer.start

        def start_first_time(self: Trainer) -> Trainer:
            Trainer.start = start  # type: ignore[method-assign]
            os.write(started_pipe, b"x")
            return start(self)

        Trainer.start = start_first_time  # type: ignore[method-assign]
        work()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException as error:  # noqa: BLE001  reported in the log and by the status
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        threading._shutdown()  # type: ignore[attr-defined]  # as an interpreter does at exit
        os._exit(status)


def worker(configs: Sequence[RunConfig], runs_dir: Path) -> Work:
    """Return a function that does what `python -m src.sweep work` does."""
    options = TrainingOptions(runs_dir=runs_dir, slots=1, wandb="disabled", quiet=True)
    return lambda: run_main(lambda _: train(configs, options))


def finish(configs: Sequence[RunConfig], log: Path, *runs_dirs: Path) -> None:
    """Finish all runs in each folder with an undisturbed worker."""

    def work() -> None:
        for runs_dir in runs_dirs:
            try:
                worker(configs, runs_dir)()
            except SystemExit as end:
                if end.code:
                    raise

    status = WorkerProcess(work, log).ended(_SWEEP_SECONDS)
    if status != SUCCEEDED:
        raise GuaranteeViolated(
            f"an undisturbed worker ended with status {status}:\n{log.read_text()[-3000:]}"
        )


def require_same_results(runs_dir: Path, undisturbed: Path, configs: Sequence[RunConfig]) -> None:
    """Raise GuaranteeViolated unless each run is done once, with the bytes of `undisturbed`."""
    for config in configs:
        folder, expected = RunFolder.of(config, runs_dir), RunFolder.of(config, undisturbed)
        for name in (paths.HISTORY, paths.PREDICTIONS, paths.weights("best_val_acc")):
            if _bytes(folder.path / name) != _bytes(expected.path / name):
                raise GuaranteeViolated(
                    f"{name} of {folder.path.name} differs from the undisturbed run"
                )
        if _numbers(folder) != _numbers(expected):
            raise GuaranteeViolated(
                f"the result of {folder.path.name} differs from the undisturbed run"
            )
        records = [files.read_json(path) for path in (folder.path / paths.ATTEMPTS).iterdir()]
        if sum((record or {}).get("ended") == "done" for record in records) > 1:
            raise GuaranteeViolated(f"{folder.path.name} was done more than once")
    if table(runs_dir) != _undisturbed_table(undisturbed):
        raise GuaranteeViolated("the table differs from that of the undisturbed sweep")
    leftovers = [
        path for path in runs_dir.rglob("*") if path.name.startswith(paths.TEMPORARY_PREFIX)
    ]
    leftovers += runs_dir.glob(f"*/*/{paths.RESUME}*")
    if leftovers:
        raise GuaranteeViolated(f"left behind: {leftovers[0]}")


@cache
def _undisturbed_table(undisturbed: Path) -> bytes:
    return table(undisturbed)


def table(runs_dir: Path) -> bytes:
    """Return the bytes of the aggregated table of all runs."""
    path = runs_dir.parent / f"{runs_dir.name}.csv"
    write_table(runs_dir, path)
    return path.read_bytes()


def write_table(runs_dir: Path, path: Path) -> None:
    """Write the table as `python -m src.report aggregate` does."""
    aggregate.write_csv(aggregate.collect(runs_dir).table, path)


def empty_folder(runs_dir: Path) -> Path:
    """Create an empty folder, deleting an existing one."""
    shutil.rmtree(runs_dir, ignore_errors=True)
    runs_dir.mkdir(parents=True)
    return runs_dir


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _numbers(folder: RunFolder) -> dict[str, Any] | None:
    result = folder.result()
    return result and {name: value for name, value in result.items() if name != "attempt"}
