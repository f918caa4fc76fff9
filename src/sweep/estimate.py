"""Estimate device-hours and disk space of a sweep, from a short measurement of each model."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import count

import torch

from src import models
from src.common.errors import Stopped, UserError, format_bytes
from src.common.progress import show_progress
from src.config import CHECKPOINT_KINDS, SYNTHETIC, RunConfig
from src.data import synthetic
from src.data.device_dataset import DeviceDataset
from src.data.sizes import images_of
from src.sweep.halving import SuccessiveHalving
from src.training import group
from src.training.concurrency import Concurrency, concurrency_for
from src.training.device import device_name, pick_device
from src.training.trainer import Trainer

_CPU_BATCH = 16  # to begin with: a vit step of 256 images takes a minute on two cores
_STEP_SECONDS = 1.0  # of a step that the batch is enlarged to, at most
_ENDLESS = 1_000_000  # epochs
_MARGIN = 1.25  # of a job's time limit over its expected work
_START_SECONDS = 60  # of a job, before it trains
_BYTES_OF_A_PREDICTION = 2 + 2 * 10  # label, prediction, probabilities in float16
_VALIDATION_SHARE = 0.4  # of a training step's time that a forward pass alone takes, at most

Kind = tuple[str, int, bool]  # what determines the speed: model, batch size, augmentation


@dataclass(frozen=True)
class TrainingSpeed:
    """The measured speed of a kind of run: images per second of `slots` runs together."""

    images_per_second: float
    slots: int
    parameters: int
    features: int


@dataclass(frozen=True)
class Cost:
    """The cost of some grid cells if every run is trained to its last epoch."""

    cells: int
    trainings: int
    device_seconds: float
    pruned_device_seconds: float
    """Device seconds with successive halving."""
    undeduplicated_device_seconds: float
    """Device seconds if every cell were trained, equal ones too."""
    disk_bytes: int
    """Bytes of finished runs."""
    peak_disk_bytes: int
    """Additional bytes for the resume checkpoints of the runs in training."""

    @property
    def time_limit(self) -> str:
        """--time of sbatch for one job with these cells: with a margin, in half hours."""
        seconds = self.device_seconds * _MARGIN + _START_SECONDS
        halves = math.ceil(seconds / 1800)
        days, halves = divmod(halves, 48)
        clock = f"{halves // 2:02}:{halves % 2 * 30:02}:00"
        return f"{days}-{clock}" if days else clock


def kind(config: RunConfig) -> Kind:
    """The kind of a run. Runs of one kind take the same time per image."""
    return config.model_type, config.batch_size, config.data_augmentation


def cost(
    configs: Sequence[RunConfig], speeds: Mapping[Kind, TrainingSpeed], halving: SuccessiveHalving
) -> Cost:
    """The cost of `configs`, all on one device."""
    unique = list({config.id: config for config in configs}.values())
    running = sorted((_resume_bytes(speeds[kind(run)]) for run in unique), reverse=True)
    widest = max(speeds[kind(run)].slots for run in unique)
    return Cost(
        cells=len(configs),
        trainings=len(unique),
        device_seconds=sum(seconds(run, speeds[kind(run)]) for run in unique),
        pruned_device_seconds=sum(
            seconds(run, speeds[kind(run)]) * share_with(halving, run.num_epochs) for run in unique
        ),
        undeduplicated_device_seconds=sum(seconds(run, speeds[kind(run)]) for run in configs),
        disk_bytes=sum(_kept_bytes(run, speeds[kind(run)]) for run in unique),
        peak_disk_bytes=sum(running[:widest]),
    )


def seconds(config: RunConfig, speed: TrainingSpeed) -> float:
    """Device seconds of a run to its last epoch."""
    train, validation, test = images_of(config)
    validations = math.ceil(config.num_epochs / config.val_freq)
    looked_at = validations * validation + len(CHECKPOINT_KINDS) * test
    images = config.num_epochs * train + _VALIDATION_SHARE * looked_at
    return images / speed.images_per_second


def share_with(halving: SuccessiveHalving, num_epochs: int) -> float:
    """The mean share of its epochs that a run is trained for, if 1 / reduction pass each rung."""
    rungs = [*halving.rungs(num_epochs), num_epochs]
    done, going_on, before = 0.0, 1.0, 0
    for rung in rungs:
        done += going_on * (rung - before)
        going_on, before = going_on / halving.reduction, rung
    return done / num_epochs


def measure(
    config: RunConfig, device: torch.device, slots: int | None, budget: float
) -> TrainingSpeed:
    """Train runs like `config` on the stand-in for `budget` seconds after a warm-up.

    slots: as for training; None tunes their number on a GPU.
    """
    data = _stand_in(device)
    run = replace(
        config,
        base_dataset_path=SYNTHETIC,
        num_epochs=_ENDLESS,
        max_images=0,
        val_split="last_batch",
        val_freq=_ENDLESS,
    )
    if device.type == "cpu":
        run = replace(run, batch_size=_affordable_batch(run, data))
    first = Trainer(run, data).start()
    with torch.no_grad():
        sample = torch.zeros(1, 3, 32, 32, device=device)
        features = first.learner.model.eval().features(sample).shape[1]
    parameters = first.learner.parameters
    watched = _MeasuringConcurrency(concurrency_for(slots, device), budget)

    def queue() -> Iterator[Trainer]:
        yield first
        for seed in count(run.seed + 1):
            yield Trainer(replace(run, seed=seed), data).start()

    try:
        for finished in group.train(queue(), concurrency=watched, stop=watched.is_done):
            raise UserError(f"{run.model_type} cannot be measured: {finished.error}")
    except Stopped:
        pass
    return TrainingSpeed(watched.rate, watched.limit, parameters, features)


@cache
def _stand_in(device: torch.device) -> DeviceDataset:
    return DeviceDataset.put(synthetic.generate(test=10), device)


def _affordable_batch(run: RunConfig, data: DeviceDataset) -> int:
    """The batch size of `run`, or as much of it as takes a second per step."""
    batch = min(run.batch_size, _CPU_BATCH)
    trainer = Trainer(replace(run, batch_size=batch), data).start()
    trainer.advance()
    started = time.perf_counter()
    trainer.advance()
    images_a_second = batch / (time.perf_counter() - started)
    return min(run.batch_size, max(batch, int(images_a_second * _STEP_SECONDS)))


class _MeasuringConcurrency:
    """Measures the throughput once the number of slots is settled and a step is done."""

    settled = True

    def __init__(self, slots: Concurrency, budget: float) -> None:
        self.slots, self.budget = slots, budget
        self.rate = 0.0
        self._window: tuple[float, int] | None = None

    @property
    def limit(self) -> int:
        return self.slots.limit

    def record(self, images: int, slots: int) -> None:
        self.slots.record(images, slots)
        if slots != self.limit or not self.slots.settled or not images:
            self._window = None
            return
        now = time.perf_counter()
        if self._window is None:
            self._window = (now, images)
            return
        started, before = self._window
        if now > started:
            self.rate = (images - before) / (now - started)

    def out_of_memory(self, slots: int) -> None:
        self.slots.out_of_memory(slots)

    def is_done(self) -> bool:
        return (
            self._window is not None
            and self.rate > 0
            and time.perf_counter() - self._window[0] >= self.budget
        )


def _kept_bytes(config: RunConfig, speed: TrainingSpeed) -> int:
    kept = {"best": 1, "all": len(CHECKPOINT_KINDS), "none": 0}[config.keep_checkpoints]
    test = images_of(config)[2]
    predictions = test * (_BYTES_OF_A_PREDICTION + 2 * speed.features)
    text = 2_000 * config.num_epochs + 20_000  # history, result, config
    return kept * 4 * speed.parameters + predictions + text


def _resume_bytes(speed: TrainingSpeed) -> int:
    """Bytes of two checkpoints, each with weights, three moments and two best weights."""
    return 2 * 6 * 4 * speed.parameters


def one_of_each_kind(configs: Sequence[RunConfig]) -> dict[Kind, RunConfig]:
    """One run of each kind."""
    kinds: dict[Kind, RunConfig] = {}
    for config in configs:
        kinds.setdefault(kind(config), config)
    return kinds


def report(
    by_set: Mapping[str, Sequence[RunConfig]],
    device_wanted: str,
    slots: int | None,
    budget: float,
    halving: SuccessiveHalving,
    as_json: bool,
) -> str:
    """The cost of sets, by architecture, by set and in total, as text or as JSON.

    Shows the progress of the measurement on stderr.
    """
    device = pick_device(device_wanted)
    configs = [config for runs in by_set.values() for config in runs]
    speeds = {}
    for one, config in show_progress(list(one_of_each_kind(configs).items()), "measuring"):
        models.check_options(config.model_type, models.options_of(config))
        speeds[one] = measure(config, device, slots, budget)
    by_model: dict[str, list[RunConfig]] = {}
    for config in configs:
        by_model.setdefault(config.model_type, []).append(config)
    tables = {
        "models": {name: cost(runs, speeds, halving) for name, runs in by_model.items()},
        "sets": {name: cost(runs, speeds, halving) for name, runs in by_set.items()},
        "all": {"all": cost(configs, speeds, halving)},
    }
    if as_json:
        measured = [[*one, asdict(speed)] for one, speed in speeds.items()]
        plain = {
            part: {name: {**asdict(one), "time_limit": one.time_limit} for name, one in of.items()}
            for part, of in tables.items()
        }
        return json.dumps({"device": device_name(device), "speeds": measured, **plain}, indent=2)
    return _text(device_name(device), speeds, tables, halving)


def _text(
    device: str,
    speeds: Mapping[Kind, TrainingSpeed],
    tables: Mapping[str, Mapping[str, Cost]],
    halving: SuccessiveHalving,
) -> str:
    whole = tables["all"]["all"]
    lines = [f"measured on {device}:"]
    for (model, batch, augmented), speed in speeds.items():
        slots = f", {speed.slots} at a time" if speed.slots > 1 else ""
        how = f"batch {batch}{', augmented' if augmented else ''}{slots}"
        lines.append(f"  {model:<12} {speed.images_per_second:>10,.0f} images/s   {how}")
    lines += [
        "",
        f"{'':<14}{'cells':>7}{'trainings':>11}{'hours each':>12}{'hours':>10}{'disk':>10}",
    ]
    for name, one in {**tables["models"], **tables["all"]}.items():
        each = one.device_seconds / one.trainings / 3600
        lines.append(
            f"{name:<14}{one.cells:>7}{one.trainings:>11}{each:>12,.2f}"
            f"{one.device_seconds / 3600:>10,.1f}{format_bytes(one.disk_bytes):>10}"
        )
    saved = (whole.undeduplicated_device_seconds - whole.device_seconds) / 3600
    pruned = (whole.device_seconds - whole.pruned_device_seconds) / 3600
    rungs = f"--first-rung {halving.first_rung} --reduction {halving.reduction}"
    lines += [
        "",
        "Hours are of one such device, if no run stops early.",
        f"Training equal cells once saves {saved:,.1f} hours; it is taken off already.",
        f"--prune {rungs} would save about {pruned:,.1f} more.",
        f"Checkpoints take up to {format_bytes(whole.peak_disk_bytes)} more while runs train.",
        "",
        f"{'set':<8}{'trainings':>11}{'hours':>10}   for one job",
    ]
    for name, one in tables["sets"].items():
        hours = one.device_seconds / 3600
        lines.append(f"{name:<8}{one.trainings:>11}{hours:>10,.1f}   --time={one.time_limit}")
    return "\n".join(lines)
