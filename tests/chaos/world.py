"""The sweep that is disturbed, the processes that work on it, and what must come of it."""

import faulthandler
import gc
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
    optimizer="sgd",  # few tensors, so that there are few writes to enumerate
    momentum=0.0,
    num_epochs=2,
    batch_size=10,
    max_images=10,
    scheduler="step",
    precision="float32",
    memory_format="contiguous",
)
ADVANCES = 2  # between two resume checkpoints
HEARTBEAT_SECONDS = 0.3
ENDED_WELL = 0
KILLED = -signal.SIGKILL
_PATIENCE_SECONDS = 60.0  # with a worker of some seconds
_SWEEP_SECONDS = 240.0  # with one that has a whole sweep to train
_POLL_SECONDS = 0.005
_WHERE = signal.SIGUSR2  # on which a worker writes where each of its threads is

Work = Callable[[], object]


class Broken(AssertionError):
    """A promise was not kept."""


def sweep(runs: int, epochs: int = 2) -> list[RunConfig]:
    """So many different trainings of some milliseconds each."""
    rates = [round(0.001 * (1 + number / 100), 6) for number in range(runs)]
    return [replace(BASE, learning_rate=rate, num_epochs=epochs) for rate in rates]


@contextmanager
def prepared() -> Iterator[None]:
    """Ready to be forked: torch and the images are loaded, clocks stand still in what is written.

    Checkpoints come every few steps rather than minutes, heartbeats every few tenths of a second.
    """

    def save_if_due(self: Trainer) -> None:
        self.advances = getattr(self, "advances", 0) + 1  # type: ignore[attr-defined]
        if self.advances % ADVANCES == 0:  # type: ignore[attr-defined]
            self._begin_saving()

    stopped = SimpleNamespace(perf_counter=lambda: 0.0, monotonic=lambda: 0.0)
    load = cache(data.load)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a pool of threads would not survive a fork
    with (
        mock.patch.object(trainer, "time", stopped),
        mock.patch.object(Trainer, "save_if_due", save_if_due),
        mock.patch.object(data, "load", load),
        mock.patch.object(leases, "HEARTBEAT_SECONDS", HEARTBEAT_SECONDS),
    ):
        load("synthetic")
        git_commit()  # that of now for all
        models.create(BASE.model_type)
        gc.freeze()  # a fork copies what its garbage collector touches
        yield
        gc.unfreeze()
    torch.set_num_threads(threads)


class Life:
    """A worker: a process of its own that trains until it is done or dies."""

    def __init__(self, work: Work, log: Path) -> None:
        """Fork, and `work` there with stderr to `log`."""
        self._log = log
        self._started, begun = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._started)
            _live(work, begun, log)
        os.close(begun)

    def has_started(self) -> bool:
        """Wait until it trains; False where it ended before."""
        ready, _, _ = select.select([self._started], [], [], _PATIENCE_SECONDS)
        return bool(ready and os.read(self._started, 1))

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def ended(self, patience: float = _PATIENCE_SECONDS) -> int:
        """Wait for its end; its exit status, or minus the signal that killed it.

        Raises Broken where it does not end in `patience` seconds.
        """
        give_up = time.monotonic() + patience
        ended = status = 0
        while not ended:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if not ended and time.monotonic() > give_up:
                self.kill(_WHERE)
                time.sleep(1)
                self.kill()
                os.waitpid(self.pid, 0)
                said = self._log.read_text()[-3000:]
                raise Broken(f"a worker hung for {patience:g} seconds:\n{said}")
            time.sleep(0 if ended else _POLL_SECONDS)
        os.close(self._started)
        return os.waitstatus_to_exitcode(status)


def _live(work: Work, begun: int, log: Path) -> None:
    """All of a worker's life. Nothing of its parent's may run at its end."""
    status = 99
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        faulthandler.register(_WHERE, file=out)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        advance = Trainer.advance

        def first(self: Trainer) -> bool:
            Trainer.advance = advance  # type: ignore[method-assign]
            os.write(begun, b"x")
            return advance(self)

        Trainer.advance = first  # type: ignore[method-assign]
        work()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException as error:  # noqa: BLE001  told in the log and by the status
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        threading._shutdown()  # type: ignore[attr-defined]  # as at the end of an interpreter
        os._exit(status)


def worker(configs: Sequence[RunConfig], runs_dir: Path) -> Work:
    """What `python -m src.sweep work` does, without its interpreter's start."""
    options = TrainingOptions(runs_dir=runs_dir, slots=1, wandb="disabled", quiet=True)
    return lambda: run_main(lambda _: train(configs, options))


def finish(configs: Sequence[RunConfig], log: Path, *runs_dirs: Path) -> None:
    """Let an undisturbed worker do what is left in each folder."""

    def work() -> None:
        for runs_dir in runs_dirs:
            try:
                worker(configs, runs_dir)()
            except SystemExit as end:
                if end.code:
                    raise

    status = Life(work, log).ended(_SWEEP_SECONDS)
    if status != ENDED_WELL:
        raise Broken(
            f"an undisturbed worker ended with status {status}:\n{log.read_text()[-3000:]}"
        )


def same(runs_dir: Path, calm: Path, configs: Sequence[RunConfig]) -> None:
    """Raise Broken unless every run is done once, and as in the undisturbed sweep `calm`."""
    for config in configs:
        one, other = RunFolder.of(config, runs_dir), RunFolder.of(config, calm)
        for name in (paths.HISTORY, paths.PREDICTIONS, paths.weights("best_val_acc")):
            if _bytes(one.path / name) != _bytes(other.path / name):
                raise Broken(f"{name} of {one.path.name} is not that of the undisturbed run")
        if _numbers(one) != _numbers(other):
            raise Broken(f"the result of {one.path.name} is not that of the undisturbed run")
        records = [files.read_json(path) for path in (one.path / paths.ATTEMPTS).iterdir()]
        if sum((record or {}).get("ended") == "done" for record in records) > 1:
            raise Broken(f"{one.path.name} was done more than once")
    if table(runs_dir) != _undisturbed_table(calm):
        raise Broken("the table is not that of the undisturbed sweep")
    left = [path for path in runs_dir.rglob("*") if path.name.startswith(paths.TEMPORARY_PREFIX)]
    left += runs_dir.glob(f"*/*/{paths.RESUME}*")
    if left:
        raise Broken(f"left behind: {left[0]}")


@cache
def _undisturbed_table(calm: Path) -> bytes:
    return table(calm)


def table(runs_dir: Path) -> bytes:
    """The table of all runs, as aggregate writes it."""
    path = runs_dir.parent / f"{runs_dir.name}.csv"
    write_table(runs_dir, path)
    return path.read_bytes()


def write_table(runs_dir: Path, path: Path) -> None:
    """As `python -m src.report aggregate` does it."""
    aggregate.write_csv(aggregate.collect(runs_dir).table, path)


def fresh(runs_dir: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(runs_dir, ignore_errors=True)
    runs_dir.mkdir(parents=True)
    return runs_dir


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _numbers(folder: RunFolder) -> dict[str, Any] | None:
    result = folder.result()
    return result and {name: value for name, value in result.items() if name != "attempt"}
