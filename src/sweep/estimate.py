"""Estimate device-hours and disk space of a sweep, from a short measurement of each model."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from itertools import chain, count

import torch

from src import models
from src.common.data_names import IMAGE_SIZE, SYNTHETIC, image_size
from src.common.errors import Stopped, UserError, format_bytes
from src.common.json_text import json_text
from src.common.progress import show_progress
from src.config import RunConfig
from src.data import synthetic
from src.data.device_dataset import DeviceDataset
from src.pruning.halving import SuccessiveHalving
from src.sweep import grid_summary
from src.sweep.cost import Cost, TrainingSpeed, cost, one_of_each_kind, speed_key_in_words
from src.sweep.grid_summary import BlockSummary
from src.sweep.measured_speeds import Measurement
from src.training.concurrency import Concurrency, concurrency_for
from src.training.device import device_name, pick_device
from src.training.group import TrainingGroup
from src.training.trainer import Trainer

_CPU_BATCH = 16  # to begin with: a vit step of 256 images takes a minute on two cores
_STEP_SECONDS = 1.0  # of a step that the batch is enlarged to, at most
_ENDLESS = 1_000_000  # epochs


def measure(
    config: RunConfig, device: torch.device, slots: int | None, budget: float
) -> TrainingSpeed:
    """Train runs like `config` on a stand-in of its image size for `budget` seconds.

    slots: as for training; None tunes their number on a GPU.
    """
    size = image_size(config.dataset)
    dataset = RunConfig.dataset if size == IMAGE_SIZE else f"{RunConfig.dataset}@{size}"
    data = _stand_in(device, dataset)
    run = replace(
        config,
        base_dataset_path=SYNTHETIC,
        dataset=dataset,
        num_epochs=_ENDLESS,
        max_images=0,
        val_split="last_batch",
        val_freq=_ENDLESS,
    )
    if device.type == "cpu":
        run = replace(run, batch_size=_affordable_batch(run, data))
    first = Trainer(run, data).start()
    with torch.no_grad():
        sample = torch.zeros(1, *data.dataset.spec.shape, device=device)
        model = first.learner.model.eval()
        features = model.features(sample).shape[1] if model.has_features else 0
    parameters = first.learner.parameters
    watched = _MeasuringConcurrency(concurrency_for(slots, device), budget)

    others = (Trainer(replace(run, seed=seed), data) for seed in count(run.seed + 1))
    queue = chain([first], others)
    with TrainingGroup(watched) as group, suppress(Stopped):
        for finished in group.train(lambda: next(queue), stop=watched.is_done):
            raise UserError(f"{run.model_name} cannot be measured: {finished.error}")
    return TrainingSpeed(watched.rate, watched.limit, parameters, features)


@cache
def _stand_in(device: torch.device, dataset: str) -> DeviceDataset:
    return DeviceDataset.put(synthetic.stand_in(dataset), device)


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
    """Measures the throughput once the number of slots is decided and a step is done."""

    is_decided = True

    def __init__(self, slots: Concurrency, budget: float) -> None:
        self.slots, self.budget = slots, budget
        self.rate = 0.0
        self._window: tuple[float, int] | None = None

    @property
    def limit(self) -> int:
        return self.slots.limit

    def record(self, images: int, slots: int) -> None:
        self.slots.record(images, slots)
        if slots != self.limit or not self.slots.is_decided or not images:
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


def measure_speeds(
    configs: Sequence[RunConfig], device_wanted: str, slots: int | None, budget: float
) -> Measurement:
    """Measure one run of each kind for `budget` seconds. Shows the progress on stderr."""
    device = pick_device(device_wanted)
    speeds = {}
    for key, config in show_progress(list(one_of_each_kind(configs).items()), "measuring"):
        models.check(config)
        speeds[key] = measure(config, device, slots, budget)
    return Measurement(device_name(device), device.type == "cuda", speeds)


def report(
    configs_by_set: Mapping[str, Sequence[RunConfig]],
    measured: Measurement,
    halving: SuccessiveHalving,
    blocks: Sequence[BlockSummary],
    as_json: bool,
) -> str:
    """The cost of sets, by architecture, by set and in total, as text or as JSON.

    blocks: those of the grid; empty if the sets are not of a grid.
    """
    speeds = measured.speeds
    configs = [config for runs in configs_by_set.values() for config in runs]
    by_model: dict[str, list[RunConfig]] = {}
    for config in configs:
        by_model.setdefault(config.model_name, []).append(config)
    tables = {
        "models": {name: cost(runs, speeds, halving) for name, runs in by_model.items()},
        "sets": {name: cost(runs, speeds, halving) for name, runs in configs_by_set.items()},
        "all": {"all": cost(configs, speeds, halving)},
    }
    if as_json:
        rows = [[*key, asdict(speed)] for key, speed in speeds.items()]
        plain = {
            part: {
                name: {**asdict(cost), "time_limit": cost.time_limit}
                for name, cost in costs.items()
            }
            for part, costs in tables.items()
        }
        grid = {"blocks": [asdict(block) for block in blocks]}
        whole = {"device": measured.device, "speeds": rows, **plain, **grid}
        return json_text(whole)
    return "\n".join([*grid_summary.lines(blocks), *_lines(measured, tables, halving)])


def _lines(
    measured: Measurement,
    tables: Mapping[str, Mapping[str, Cost]],
    halving: SuccessiveHalving,
) -> list[str]:
    whole = tables["all"]["all"]
    lines = [f"measured on {measured.device}:"]
    for key, speed in measured.speeds.items():
        slots = f", {speed.slots} at a time" if speed.slots > 1 else ""
        rate = f"{speed.images_per_second:>10,.0f} images/s"
        lines.append(f"  {key[0]:<12} {rate}   {speed_key_in_words(key)}{slots}")
    lines += [
        "",
        f"{'':<14}{'cells':>7}{'trainings':>11}{'hours each':>12}{'hours':>10}{'disk':>10}",
    ]
    for name, table in {**tables["models"], **tables["all"]}.items():
        each = table.device_seconds / table.trainings / 3600
        lines.append(
            f"{name:<14}{table.cells:>7}{table.trainings:>11}{each:>12,.2f}"
            f"{table.device_seconds / 3600:>10,.1f}{format_bytes(table.disk_bytes):>10}"
        )
    saved = (whole.undeduplicated_device_seconds - whole.device_seconds) / 3600
    pruned = (whole.device_seconds - whole.pruned_device_seconds) / 3600
    rungs = f"--first_rung {halving.first_rung} --reduction {halving.reduction}"
    lines += [
        "",
        "Hours are of one such device, if no run stops early.",
        f"Training equal cells once saves {saved:,.1f} hours, which are already subtracted.",
        f"--prune {rungs} would save about {pruned:,.1f} more.",
        f"Checkpoints take up to {format_bytes(whole.peak_disk_bytes)} more while runs train.",
        "",
        f"{'set':<8}{'trainings':>11}{'hours':>10}   for one job",
    ]
    for name, table in tables["sets"].items():
        hours = table.device_seconds / 3600
        lines.append(f"{name:<8}{table.trainings:>11}{hours:>10,.1f}   --time={table.time_limit}")
    return lines
