"""The numbers of learning curves: what each epoch of a run came to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from src.common.errors import UserError
from src.common.paths import HISTORY
from src.config import SYNTHETIC, RunConfig
from src.report.chosen import Chosen
from src.report.numbers import SETTINGS, describe

Points = list[tuple[int, float]]
"""Epochs (from 1) that were measured, and their values."""

PARTS = ("train", "val")
MEASURES = ("loss", "accuracy")


@dataclass(frozen=True)
class Curve:
    """A run over its epochs. Losses in nats, accuracies from 0 to 1."""

    label: str
    points: dict[tuple[str, str], Points]
    """By part and measure; epochs without a validation are left out there."""
    best_epoch: int | None
    """The first of highest validation accuracy; None where there was no validation yet."""


@dataclass(frozen=True)
class Curves:
    """Runs side by side, what all of them have in common, and their data, in words."""

    runs: list[Curve]
    shared: str
    data: str


def history(run: Chosen) -> list[dict[str, Any]]:
    """The epochs of a run. Raises UserError where there are none, or they are damaged."""
    try:
        rows = run.folder.history()
    except ValueError as error:
        raise UserError(f"{run.folder.path / HISTORY}: damaged: {error}") from None
    if not rows:
        raise UserError(f"{run.folder.path}: no {HISTORY} (the run is {run.folder.state()})")
    return rows


def curves(runs: Sequence[tuple[Chosen, list[dict[str, Any]]]]) -> Curves:
    """The curves of runs with their histories; labels carry only what differs between them."""
    configs = [run.config for run, _ in runs]
    shared, labels = names(configs)
    drawn = [_curve(label, rows) for label, (_, rows) in zip(labels, runs, strict=True)]
    return Curves(drawn, shared, " and ".join(sorted({data_name(one) for one in configs})))


def data_name(config: RunConfig) -> str:
    """What a title calls the data of a run."""
    return "synthetic data" if config.dataset == SYNTHETIC else "CIFAR-10"


def names(configs: Sequence[RunConfig]) -> tuple[str, list[str]]:
    """What settings share, and for each what sets it apart from the others, in words."""
    rows = [_row(config.canonical()) for config in configs]
    models = {config.model_type for config in configs}
    others = {
        spec.name: spec.default
        for spec in fields(RunConfig)
        if spec.metadata["changes_result"]
        and spec.name not in (*SETTINGS, "data_augmentation", "model_type")
    }
    shared, labels = describe(rows, others)
    if len(models) == 1:
        return ", ".join(filter(None, (*models, shared))), labels
    return shared, [
        config.model_type if label == config.model_type else f"{config.model_type}, {label}"
        for config, label in zip(configs, labels, strict=True)
    ]


def _row(config: RunConfig) -> dict[str, Any]:
    """A config under the names of the table's columns."""
    return {
        **config.as_dict(),
        "Modelname": config.model_type,
        "augmentation": config.data_augmentation,
    }


def _curve(label: str, rows: list[dict[str, Any]]) -> Curve:
    points = {
        (part, measure): [
            (row["epoch"], row[f"{part}_{measure}"])
            for row in rows
            if math.isfinite(row.get(f"{part}_{measure}", math.nan))
        ]
        for part in PARTS
        for measure in MEASURES
    }
    validated = points["val", "accuracy"]
    best = max(validated, key=lambda point: (point[1], -point[0]))[0] if validated else None
    return Curve(label, points, best)
