"""The learning-rate range test, Smith 2017, https://arxiv.org/abs/1506.01186.

Train some steps on the run's own batches while the rate grows exponentially; the rate at which
the loss falls fastest is a good one to train with. Smoothing, the end at divergence and the
suggestion are those of torch-lr-finder.
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from src.common import files, paths
from src.common.errors import InvalidValue, Stopped, UserError
from src.common.signals import StopSignal
from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.training.cuda_graphs import GraphRunner
from src.training.learner import Learner
from src.training.precision import select_compute_format
from src.training.preload import load_data

_SMOOTHING = 0.05  # the weight of the newest loss
_DIVERGED = 5.0  # times the lowest smoothed loss
_SKIPPED_FIRST, _SKIPPED_LAST = 10, 5  # steps that no suggestion comes from
MIN_STEPS = _SKIPPED_FIRST + _SKIPPED_LAST + 2


@dataclass(frozen=True)
class RateSweep:
    """Learning rates from `start` to `end` in `steps` equal ratios."""

    start: float = 1e-7
    end: float = 10.0
    steps: int = 100

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise InvalidValue("--start", self.start, f"less than --end {self.end:g}")
        if self.steps < MIN_STEPS:
            raise InvalidValue("--steps", self.steps, f"at least {MIN_STEPS}")

    def rate(self, step: int) -> float:
        """The learning rate of a step (from 0)."""
        return self.start * (self.end / self.start) ** (step / (self.steps - 1))


@dataclass(frozen=True)
class RangeTestCurve:
    """Learning rates, and the smoothed training loss of the batch trained with each."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def suggested(self) -> int:
        """The step (from 0) of the steepest descent. Raises UserError after too few steps."""
        if len(self.losses) < MIN_STEPS:
            raise UserError(
                f"the loss diverged after {len(self.losses)} steps, too few to suggest a rate: "
                "begin with a lower --start, or take more --steps"
            )
        kept = np.array(self.losses[_SKIPPED_FIRST:-_SKIPPED_LAST])
        return _SKIPPED_FIRST + int(np.gradient(kept).argmin())

    @property
    def suggestion(self) -> float:
        """The suggested rate, rounded to three digits."""
        return float(f"{self.rates[self.suggested]:.3g}")


class _RangeTest(Learner):
    """A learner whose learning rate follows a sweep instead of a schedule."""

    sweep: RateSweep

    def lr_at(self, epoch: int, step: int) -> float:
        return self.sweep.rate(epoch * len(self.bounds) + step)

    def raw_losses(self) -> Iterator[float]:
        """The mean loss of each training step, endlessly."""
        epoch = 0
        while True:
            self.start_epoch(epoch, 0)
            for step in range(len(self.bounds)):
                self.metrics.reset()
                self.train_batch(epoch, step)
                yield self.metrics.read().totals().mean_loss
            self.end_epoch(epoch)
            epoch += 1


def range_test(
    config: RunConfig,
    resident: DeviceDataset,
    sweep: RateSweep,
    stop: Callable[[], bool] = lambda: False,
) -> RangeTestCurve:
    """Train a fresh model of `config` through `sweep`, or until its loss diverges.

    Raises Stopped once stop() is true.
    """
    graph_runner = GraphRunner(resident.device, graphs=False)
    rates: list[float] = []
    losses: list[float] = []
    gpus = [torch.cuda.current_device()] if graph_runner.concurrent else []
    with torch.random.fork_rng(gpus), graph_runner.activated():
        compute_format = select_compute_format(config, resident.device, resident.dataset.spec)
        learner = _RangeTest(config.canonical(), resident, graph_runner, compute_format)
        learner.sweep = sweep
        for loss in islice(learner.raw_losses(), sweep.steps):
            if stop():
                raise Stopped("stopped by a signal; a range test saves nothing before its end")
            if losses:
                loss = _SMOOTHING * loss + (1 - _SMOOTHING) * losses[-1]
            if not math.isfinite(loss):
                break
            rates.append(sweep.rate(len(rates)))
            losses.append(loss)
            if loss > _DIVERGED * min(losses):
                break
    return RangeTestCurve(tuple(rates), tuple(losses))


def measure(config: RunConfig, sweep: RateSweep) -> RangeTestCurve:
    """`range_test` on the data of `config`.

    Raises UserError if the config cannot work, and Stopped when a signal asks for the end.
    """
    stop = StopSignal().install()
    data_of = load_data([config], {})
    return range_test(config, data_of(config), sweep, stop)


def save_csv(curve: RangeTestCurve, path: Path) -> None:
    """Write a line for each step: its rate, and the smoothed loss."""
    rows = zip(curve.rates, curve.losses, strict=True)
    files.write_text(path, "learning_rate,loss\n" + "".join(f"{r},{v}\n" for r, v in rows))


def with_suggested_rate(config: RunConfig, runs_dir: Path, quiet: bool = False) -> RunConfig:
    """`config` with the learning rate that a range test suggests.

    The test is done once for a run and its result kept under `runs_dir`, so that the same
    settings always give the same run.
    """
    unrated = replace(config, learning_rate=RunConfig.learning_rate)
    path = paths.suggested_rate_file(runs_dir, config.model_name, unrated.id)
    stored = files.read_json(path)
    if not stored:
        curve = measure(config, RateSweep())
        record = {"learning_rate": curve.suggestion, **asdict(curve), "config": unrated.stored()}
        path.parent.mkdir(parents=True, exist_ok=True)
        files.create_json(path, record)
        stored = files.read_json(path) or record  # of the process that wrote it first
    if not quiet:
        print(f"learning rate {stored['learning_rate']:g}: {paths.shown(path)}", file=sys.stderr)
    return replace(config, learning_rate=stored["learning_rate"])
