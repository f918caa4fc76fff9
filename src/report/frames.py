"""The numbers of reports as DataFrames, to look at and to go on with. Accuracies are 0 to 1."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import combinations
from typing import Any

import pandas as pd

from src.common.errors import UserError
from src.config import RunConfig
from src.report import classes, numbers
from src.report.chosen import Chosen
from src.report.importance import Importance
from src.report.numbers import Bar, TopK
from src.report.page import content, rows, standing
from src.report.predictions import Predictions
from src.report.settings import MODEL
from src.report.table import TEST, architectures, is_pruned, trainings

_OF_A_BAR = {
    "label": "settings",
    "run_id": "run",
    "validation": "validation",
    "accuracy": "test",
    "low": "low 95 %",
    "high": "high 95 %",
    "per_class": "per class",
}
_ORIGIN = ("device", "precision", "git_commit", "seed", "num_epochs", "epochs_run", "test_images")


def overall(bars: Sequence[Bar]) -> pd.DataFrame:
    """The best run of each architecture, with the 95 % Wilson interval of its test accuracy."""
    return _frame(content.best_of_each(bars), {"model": "model", **_OF_A_BAR}, "model")


def top(of_model: TopK) -> pd.DataFrame:
    """The best runs of an architecture, and how far each is behind the most accurate of them."""
    bars = content.top(of_model)["bars"]
    found = _frame(bars, {**_OF_A_BAR, "behind": "behind"})
    found["which is"] = [_verdict(bar) for bar in bars]
    found.index = pd.RangeIndex(1, len(found) + 1, name="rank")
    return found


def differences(bars: Sequence[Bar]) -> pd.DataFrame:
    """Of every two runs, by how much one is more accurate, with Newcombe's 95 % interval."""
    by_accuracy = sorted(bars, key=lambda bar: -bar.accuracy)
    found = [
        (
            *(better.row[MODEL], other.row[MODEL], better.accuracy - other.accuracy),
            *numbers.difference(better, other),
            numbers.within_noise(better, other),
        )
        for better, other in combinations(by_accuracy, 2)
    ]
    names = ["better", "other", "difference", "low 95 %", "high 95 %", "within noise"]
    return pd.DataFrame(found, columns=names)


def importances(found: Sequence[Importance]) -> pd.DataFrame:
    """Each setting's share of the variance, by architecture, or why it is not told."""
    shares = pd.DataFrame(
        [{name.replace("_", " "): share for name, share in one.shares.items()} for one in found]
    )
    shares.insert(0, "runs", [one.runs for one in found])
    shares["not told"] = [one.why_not for one in found]
    return shares.set_index(pd.Index([one.model for one in found], name="model"))


def origin(table: pd.DataFrame) -> pd.DataFrame:
    """Where the rows of each architecture come from: how many, on what, for how long.

    Device hours are those that the finished trainings took; a blank is what nothing tells.
    """
    found = {}
    for model in architectures(table):
        part = table[table[MODEL] == model]
        hours = standing.of_table(part).device_hours
        found[model] = {
            "rows": len(part),
            "trainings": len(trainings(part)),
            "pruned": int(is_pruned(part).sum()),
            **{name.replace("_", " "): _values(part, name) for name in _ORIGIN},
            "device hours": "" if hours is None else round(hours, 2),
        }
    return pd.DataFrame(found).rename_axis(columns="model")


def side_by_side(runs: Sequence[Chosen], table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Settings and results of runs, a column for each run.

    Settings are those of the command that trains it: all with a short flag, and others where one
    run is not at the default. Raises UserError for a run that is not in the table.
    """
    configs = [run.config.canonical() for run in runs]
    names = [
        spec.name
        for spec in fields(RunConfig)
        if spec.metadata["changes_result"]
        and (spec.metadata["short"] or any(getattr(c, spec.name) != spec.default for c in configs))
    ]
    shown = rows.measures(table, column)
    found = {}
    for run, config in zip(runs, configs, strict=True):
        row = _row_of(run, table)
        low, high = numbers.interval(row[TEST], rows.images_of(row))
        found[run.title] = {
            **{("setting", name.replace("_", " ")): _told(getattr(config, name)) for name in names},
            **{("result", measure.words): row[measure.name] for measure in shown},
            ("result", "test accuracy, low 95 %"): low,
            ("result", "test accuracy, high 95 %"): high,
        }
    return pd.DataFrame(found, dtype=object)


def worst_classes(runs: Sequence[tuple[Chosen, Predictions]]) -> pd.DataFrame:
    """The accuracy of each class under each run, and what it is most taken for.

    In the order of the first run, its worst class first.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run, predicted in runs:
        matrix = classes.confusion(predicted.labels, predicted.predictions)
        worst = classes.worst_first(classes.per_class(matrix))
        found[run.title, "accuracy"] = {one.name: one.accuracy for one in worst}
        found[run.title, "most taken for"] = {one.name: _taken_for(one) for one in worst}
    return pd.DataFrame(found, index=list(next(iter(found.values()))))


def _frame(
    found: Sequence[dict[str, Any]], names: dict[str, str], index: str | None = None
) -> pd.DataFrame:
    frame = pd.DataFrame(found)[list(names)].rename(columns=names)
    return frame.set_index(index) if index else frame


def _verdict(bar: dict[str, Any]) -> str:
    if bar["is_most_accurate"]:
        return "the most accurate"
    return "within noise" if bar["within_noise"] else "beyond noise"


def _told(value: Any) -> Any:
    """A setting that a model does not have is blank."""
    return "" if value is None else value


def _values(table: pd.DataFrame, name: str) -> str:
    """The different values of a column, in words."""
    told = table[name].dropna().unique().tolist() if name in table else []
    words = [f"{value:g}" if isinstance(value, float) else str(value) for value in told]
    return ", ".join(word[:10] if name == "git_commit" else word for word in words)


def _row_of(run: Chosen, table: pd.DataFrame) -> dict[str, Any]:
    if "run_id" in table:
        found = trainings(table[table["run_id"] == run.config.id]).to_dict("records")
        if found:
            return {str(name): value for name, value in found[0].items()}
    raise UserError(f"{run.folder.path}: its run is not in the table")


def _taken_for(one: classes.ClassResult) -> str:
    return ", ".join(f"{other.name} {other.images}" for other in one.mistakes[:2])
