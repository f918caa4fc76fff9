"""The table of all runs as the page holds it: a list for each column."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.data.dataset import CLASSES
from src.report.charts import words
from src.report.numbers import TEST_IMAGES, interval
from src.report.settings import MODEL, Setting
from src.report.table import TEST

BEST = "best_val_acc"
_PER_CLASS = tuple(f"test_per_class_accuracy_{name}_{BEST}" for name in CLASSES)

_MEASURES = {
    "best_val_accuracy": "share",
    "val_accuracy": "share",
    TEST: "share",
    f"test_per_class_accuracy_{BEST}": "share",
    f"test_loss_{BEST}": "loss",
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
_WORDS = {
    "val_accuracy": "validation accuracy, last epoch",
    f"test_per_class_accuracy_{BEST}": "mean per-class accuracy",
    f"test_loss_{BEST}": "test loss",
    "test_accuracy_best_val_loss": "test accuracy, lowest validation loss",
    "test_accuracy_terminal": "test accuracy, last epoch",
    "val_loss": "validation loss, last epoch",
    "train_accuracy": "training accuracy, last epoch",
    "train_loss": "training loss, last epoch",
    "train_seconds": "training time",
    "images_per_second": "images/s",
}
_TEXTS = ("Full_Modelname", "run_id", "stop_reason", "device", "precision", "git_commit")


@dataclass(frozen=True)
class Measure:
    """A column of results: how it is called, and how its values are written."""

    name: str
    words: str
    kind: str
    """share (0 to 1), loss, count, seconds or number."""


def measures(table: pd.DataFrame, rank: str) -> list[Measure]:
    """The results that the table tells, that which ranks first."""
    names = [rank, *(name for name in _MEASURES if name != rank)]
    told = [name for name in names if name in table and table[name].notna().any()]
    return [
        Measure(name, _WORDS.get(name, words(name)), _MEASURES.get(name, "number")) for name in told
    ]


def columns(
    table: pd.DataFrame, settings: list[Setting], shown: list[Measure]
) -> dict[str, list[Any]]:
    """Every column of the page by name; settings as places among their levels or as numbers."""
    found: dict[str, list[Any]] = {"key": list(keys(table))}
    for setting in settings:
        wide = setting.is_wide
        found[setting.name] = plain(table[setting.name]) if wide else setting.places(table)
    for measure in shown:
        found[measure.name] = plain(table[measure.name])
    for name in _TEXTS:
        if name in table:
            found[name] = plain(table[name])
    if "alias_of" in table:
        found["alias_of"] = plain(table["alias_of"])
    bounds = [interval(row[TEST], images_of(row)) for row in table.to_dict("records")]
    found["low"], found["high"] = ([bound[end] for bound in bounds] for end in (0, 1))
    return found


def keys(table: pd.DataFrame) -> Iterator[str]:
    """What each row is called in the page's address: its run's id, or its name; all different."""
    seen: Counter[str] = Counter()
    for row in table.to_dict("records"):
        told = row.get("run_id")
        key = str(row.get("Full_Modelname", row[MODEL])) if pd.isna(told) else str(told)
        seen[key] += 1
        yield key if seen[key] == 1 else f"{key}~{seen[key]}"


def images_of(row: Mapping[Any, Any]) -> int:
    """How many test images judged a row's run."""
    images = row.get("test_images")
    return TEST_IMAGES if images is None or pd.isna(images) else int(images)


def per_class(row: Mapping[Any, Any]) -> list[float] | None:
    """A row's test accuracy of each class; None where the table does not tell it."""
    told = [row.get(name) for name in _PER_CLASS]
    values = [value for value in told if value is not None and not pd.isna(value)]
    return [float(value) for value in values] if len(values) == len(CLASSES) else None


def plain(values: Iterable[Any]) -> list[Any]:
    """Values as JSON has them: what is missing, or no finite number, is null."""
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    if pd.isna(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    return value if not isinstance(value, float) or math.isfinite(value) else None
