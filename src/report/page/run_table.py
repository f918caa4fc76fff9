"""Runs as plain values: the table of all runs by column, and rankings, for page and notebooks."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.report.charts.top_k import RankedRun, TopK
from src.report.settings import HYPERPARAMETERS, Setting, plain
from src.report.statistics import is_within_noise, wilson_interval
from src.report.table import (
    BEST_VAL_ACCURACY,
    MODEL,
    PER_CLASS_ACCURACY,
    TEST_ACCURACY,
    cell_text,
    column_label,
    first_number,
    number_of_test_images,
    records,
)

_OF_CLASS = re.compile(r"test_per_class_accuracy_(.+)_best_val_acc")
_TEST_LOSS = "test_loss_best_val_acc"
_KINDS = {
    BEST_VAL_ACCURACY: "share",
    "val_accuracy": "share",
    TEST_ACCURACY: "share",
    PER_CLASS_ACCURACY: "share",
    _TEST_LOSS: "loss",
    "test_accuracy_best_val_loss": "share",
    "test_accuracy_terminal": "share",
    "val_loss": "loss",
    "train_accuracy": "share",
    "train_loss": "loss",
    "epochs_run": "count",
    "best_epoch": "count",
    "train_seconds": "seconds",
    "images_per_second": "count",
}
_TITLES = {
    "val_accuracy": "validation accuracy, last epoch",
    PER_CLASS_ACCURACY: "mean per-class accuracy",
    _TEST_LOSS: "test loss",
    "test_accuracy_best_val_loss": "test accuracy, lowest validation loss",
    "test_accuracy_terminal": "test accuracy, last epoch",
    "val_loss": "validation loss, last epoch",
    "train_accuracy": "training accuracy, last epoch",
    "train_loss": "training loss, last epoch",
    "train_seconds": "training time",
    "images_per_second": "images/s",
}
_TEXT_COLUMNS = ("Full_Modelname", "run_id", "stop_reason", "device", "precision", "git_commit")


@dataclass(frozen=True)
class ResultColumn:
    """A column of results: its title, and how its values are written."""

    name: str
    title: str
    kind: str
    """share (0 to 1), loss, count, seconds or number."""


def result_columns(table: pd.DataFrame, rank_column: str) -> list[ResultColumn]:
    """The result columns of the table that are not empty, the ranked one first."""
    names = [rank_column, *(name for name in _KINDS if name != rank_column)]
    filled = [name for name in names if name in table and table[name].notna().any()]
    return [
        ResultColumn(
            name=name,
            title=_TITLES.get(name, column_label(name)),
            kind=_KINDS.get(name, "number"),
        )
        for name in filled
    ]


def column_values(
    table: pd.DataFrame, settings: Sequence[Setting], results: Sequence[ResultColumn]
) -> dict[str, list[Any]]:
    """The columns of the page by name. A setting is its codes, or numbers if continuous."""
    columns: dict[str, list[Any]] = {"key": list(row_keys(table))}
    for setting in settings:
        continuous = setting.is_continuous
        values = as_json_values(table[setting.name]) if continuous else setting.codes(table)
        columns[setting.name] = values
    for name in (*(result.name for result in results), *_TEXT_COLUMNS, "alias_of"):
        if name in table:
            columns[name] = as_json_values(table[name])
    bounds = [
        wilson_interval(row[TEST_ACCURACY], number_of_test_images(row)) for row in records(table)
    ]
    columns["low"] = [low for low, _ in bounds]
    columns["high"] = [high for _, high in bounds]
    return columns


def row_keys(table: pd.DataFrame) -> Iterator[str]:
    """A key for each row, for links and JSON: run id or name, with a number if it occurs again."""
    counts: Counter[str] = Counter()
    for row in records(table):
        run_id = row.get("run_id")
        key = str(row.get("Full_Modelname", row[MODEL])) if pd.isna(run_id) else str(run_id)
        counts[key] += 1
        yield key if counts[key] == 1 else f"{key}~{counts[key]}"


def class_accuracies(row: Mapping[Any, Any]) -> dict[str, float]:
    """A row's test accuracy of each class that the table has, by the name of the class."""
    matches = ((_OF_CLASS.fullmatch(str(name)), value) for name, value in row.items())
    return {match[1]: float(value) for match, value in matches if match and not pd.isna(value)}


def as_json_values(values: Iterable[Any]) -> list[Any]:
    """Values for JSON; missing values, NaN and infinity become null."""
    return [_as_json_value(value) for value in values]


def _as_json_value(value: Any) -> Any:
    if pd.isna(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    return value if not isinstance(value, float) or math.isfinite(value) else None


def run_view(run: RankedRun) -> dict[str, Any]:
    """A ranked run."""
    return {
        "model": str(run.row[MODEL]),
        "label": _one_line(run.label),
        "settings": [str(run.row[name]) for name in HYPERPARAMETERS],
        "accuracy": run.accuracy,
        "low": run.low,
        "high": run.high,
        "per_class": run.per_class_accuracy,
        "validation": first_number(run.row, (BEST_VAL_ACCURACY, "val_accuracy")),
        "images": number_of_test_images(run.row),
        "pruned_after": run.pruned_after,
        "seeds": run.seeds,
        "run_id": cell_text(run.row.get("run_id")),
    }


def best_of_each_view(runs: Sequence[RankedRun]) -> list[dict[str, Any]]:
    """The best run of each architecture; labels without the architecture's name."""
    return [
        run_view(run) | {"label": _one_line(run.label.partition("\n")[2] or run.label)}
        for run in runs
    ]


def top_k_view(top: TopK) -> dict[str, Any]:
    """The best runs of an architecture, each with its difference from the most accurate one."""
    most_accurate = max(top.runs, key=lambda run: run.accuracy)
    runs = [
        run_view(run)
        | {
            "behind": most_accurate.accuracy - run.accuracy,
            "within_noise": is_within_noise(most_accurate, run),
            "is_most_accurate": run is most_accurate,
        }
        for run in top.runs
    ]
    return {
        "model": top.model,
        "runs": top.candidates,
        "noun": top.noun,
        "shared": _one_line(top.shared),
        "bars": runs,
        "scale": axis_limits(runs),
    }


def axis_limits(runs: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Limits of an axis for intervals: different whole per cents around all of them."""
    low = math.floor(100 * min((run["low"] for run in runs), default=0.0))
    high = math.ceil(100 * max((run["high"] for run in runs), default=1.0))
    if low == high:  # as of single seeds, which have no interval
        low, high = max(low - 1, 0), min(high + 1, 100)
    return low / 100, high / 100


def _one_line(label: str) -> str:
    return plain(label).replace("\n", ", ")
