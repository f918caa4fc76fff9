"""The numbers of the charts, as plain values."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.report.table import ranked, trainings

TEST_IMAGES = 10_000
_Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
SETTINGS = {
    "augmentation": "augmented",
    "scheduler": "",
    "learning_rate": "lr",
    "weight_decay": "wd",
    "gamma": "gamma",
}


@dataclass(frozen=True)
class Bar:
    """One run of a chart. Accuracies are shares from 0 to 1."""

    label: str
    accuracy: float
    low: float
    high: float
    per_class_accuracy: float
    pruned_after: int | None
    """Epochs after which the run was stopped as hopeless, if it was."""
    row: dict[str, Any]


@dataclass(frozen=True)
class TopK:
    """The k best runs of an architecture, best first, and what they were chosen from."""

    model: str
    bars: list[Bar]
    shared: str
    """What all of them have in common, in words."""
    runs: int
    """Different trainings of the architecture in the table."""
    rank_column: str


def interval(accuracy: float, images: int = TEST_IMAGES) -> tuple[float, float]:
    """95 % Wilson score interval of an accuracy measured on `images` images (Wilson 1927)."""
    right = round(accuracy * images)
    share, z2 = right / images, _Z * _Z / images
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(share * (1 - share) * z2 + z2 * z2 / 4) / (1 + z2)
    return 0.0 if not right else middle - half, 1.0 if right == images else middle + half


def top_k(table: pd.DataFrame, model: str, k: int, column: str) -> TopK:
    """The k best runs of an architecture by `column`."""
    runs = table[table["Modelname"] == model]
    best = ranked(runs, column).head(k)
    rows = _records(best)
    shared, labels = describe(rows)
    bars = [_bar(row, label) for row, label in zip(rows, labels, strict=True)]
    return TopK(model, bars, shared, len(trainings(runs)), column)


def overall(table: pd.DataFrame, column: str) -> list[Bar]:
    """The best run of each architecture by `column`, the best architecture first."""
    best = _records(ranked(table, column).drop_duplicates("Modelname"))
    return [_bar(row, f"{row['Modelname']}\n{describe([row])[0]}") for row in best]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def describe(
    rows: list[dict[str, Any]], others: Mapping[str, object] | None = None
) -> tuple[str, list[str]]:
    """What all rows share, and for each what sets it apart from the others, in words.

    others: columns besides SETTINGS, with their usual values, which are not told.
    """
    usual = others or {}
    shared = [name for name in SETTINGS if len({row[name] for row in rows}) == 1]
    if len({_has_gamma(row) for row in rows}) > 1:
        shared = [name for name in shared if name != "gamma"]
    apart = [name for name in SETTINGS if name not in shared]
    differing = [name for name in usual if len({row[name] for row in rows}) > 1]
    labels = [
        _words(row, [*apart, *(name for name in differing if row[name] != usual[name])])
        for row in rows
    ]
    common = _words(rows[0], shared) if rows else ""
    return common, [label or row["Modelname"] for label, row in zip(labels, rows, strict=True)]


def _words(row: dict[str, Any], names: Iterable[str]) -> str:
    matters = {"gamma": _has_gamma(row)}
    return ", ".join(_word(name, row[name]) for name in names if matters.get(name, True))


def _has_gamma(row: dict[str, Any]) -> bool:
    return row["scheduler"] in ("exponential", "step")


def _word(name: str, value: Any) -> str:
    if name == "augmentation":
        return "augmented" if value else "not augmented"
    text = format(value, "g") if isinstance(value, int | float) else str(value)
    if isinstance(value, bool):
        text = "on" if value else "off"
    word = SETTINGS.get(name, name.replace("_", " "))
    return f"{word} {text}".strip().replace(" ", "\N{NO-BREAK SPACE}")


def _bar(row: dict[str, Any], label: str) -> Bar:
    accuracy = row["test_accuracy_best_val_acc"]
    images = row.get("test_images")
    low, high = interval(accuracy, TEST_IMAGES if pd.isna(images) else int(images))
    per_class = row["test_per_class_accuracy_best_val_acc"]
    pruned_after = int(row["epochs_run"]) if row.get("stop_reason") == "pruned" else None
    if pruned_after is not None:
        label += f"\npruned after {pruned_after} epochs"
    return Bar(label, accuracy, low, high, per_class, pruned_after, row)


def difference(better: Bar, other: Bar) -> tuple[float, float]:
    """95 % interval of how much more accurate one run is than another, from their intervals.

    Newcombe's method 10 (1998). Both runs saw the same images, which it does not use: it errs on
    the side of calling a difference noise. How runs differ by their seed comes on top.
    """
    apart = better.accuracy - other.accuracy
    down = math.hypot(better.accuracy - better.low, other.high - other.accuracy)
    up = math.hypot(better.high - better.accuracy, other.accuracy - other.low)
    return apart - down, apart + up


def within_noise(one: Bar, other: Bar) -> bool:
    """Whether so small a difference of accuracies would be seen between equally good runs."""
    low, high = difference(one, other)
    return low <= 0 <= high
