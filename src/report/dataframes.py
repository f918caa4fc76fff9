"""The numbers of reports as DataFrames, for notebooks. Accuracies are shares from 0 to 1."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import combinations
from typing import Any

import pandas as pd

from src.common.errors import UserError
from src.config import RunConfig
from src.report.charts.importance import Importance
from src.report.charts.top_k import RankedRun, TopK
from src.report.page.run_table import best_of_each_view, result_columns, top_k_view
from src.report.page.sweep_state import state_of_table
from src.report.run_analysis.confusion_matrix import (
    ClassResult,
    class_results,
    confusion_matrix,
    worst_first,
)
from src.report.run_analysis.predictions import Predictions
from src.report.run_analysis.run_selection import SelectedRun
from src.report.statistics import is_within_noise, newcombe_interval, wilson_interval
from src.report.table import (
    MODEL,
    TEST_ACCURACY,
    architectures,
    drop_aliases,
    is_pruned,
    number_of_test_images,
    records,
)

_COLUMNS = {
    "label": "settings",
    "run_id": "run",
    "validation": "validation",
    "accuracy": "test",
    "low": "low 95 %",
    "high": "high 95 %",
    "per_class": "per class",
    "seeds": "seeds",
}
_ORIGIN = ("device", "precision", "git_commit", "seed", "num_epochs", "epochs_run", "test_images")


def overall(runs: Sequence[RankedRun]) -> pd.DataFrame:
    """The best run of each architecture, with the 95 % interval of its test accuracy."""
    names = {"model": "model", **_COLUMNS}
    return (
        pd.DataFrame(best_of_each_view(runs))[list(names)].rename(columns=names).set_index("model")
    )


def top_k(top: TopK) -> pd.DataFrame:
    """The best runs of an architecture, and how far each is behind the most accurate of them."""
    names = {**_COLUMNS, "behind": "behind"}
    runs = top_k_view(top)["bars"]
    frame = pd.DataFrame(runs)[list(names)].rename(columns=names)
    frame["which is"] = [_verdict(run) for run in runs]
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="rank")
    return frame


def _verdict(run: dict[str, Any]) -> str:
    if run["is_most_accurate"]:
        return "the most accurate"
    return "within noise" if run["within_noise"] else "beyond noise"


def differences(runs: Sequence[RankedRun]) -> pd.DataFrame:
    """The difference in accuracy of every two runs, with Newcombe's 95 % interval."""
    rows = []
    for better, other in combinations(sorted(runs, key=lambda run: -run.accuracy), 2):
        low, high = newcombe_interval(better, other)
        rows.append(
            {
                "better": better.row[MODEL],
                "other": other.row[MODEL],
                "difference": better.accuracy - other.accuracy,
                "low 95 %": low,
                "high 95 %": high,
                "within noise": is_within_noise(better, other),
            }
        )
    columns = ["better", "other", "difference", "low 95 %", "high 95 %", "within noise"]
    return pd.DataFrame(rows, columns=columns)


def importances(estimates: Sequence[Importance]) -> pd.DataFrame:
    """Each setting's share of the variance by architecture, or why it cannot be estimated."""
    frame = pd.DataFrame(
        [{name.replace("_", " "): share for name, share in e.shares.items()} for e in estimates]
    )
    frame.insert(0, "runs", [estimate.runs for estimate in estimates])
    frame["not estimated"] = [estimate.reason for estimate in estimates]
    return frame.set_index(pd.Index([estimate.model for estimate in estimates], name="model"))


def origin(table: pd.DataFrame) -> pd.DataFrame:
    """A column for each architecture: number of rows, devices, epochs, code, training time.

    Device hours are those of finished trainings. What the table does not record is blank.
    """
    columns = {}
    for model in architectures(table):
        rows = table[table[MODEL] == model]
        hours = state_of_table(rows).training_hours
        columns[model] = {
            "rows": len(rows),
            "trainings": len(drop_aliases(rows)),
            "pruned": int(is_pruned(rows).sum()),
            **{name.replace("_", " "): _distinct(rows, name) for name in _ORIGIN},
            "training time (h)": "" if hours is None else round(hours, 2),
        }
    return pd.DataFrame(columns).rename_axis(columns="model")


def _distinct(rows: pd.DataFrame, name: str) -> str:
    """The distinct values of a column, in one line."""
    values = rows[name].dropna().unique().tolist() if name in rows else []
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return ", ".join(text[:10] if name == "git_commit" else text for text in texts)


def side_by_side(runs: Sequence[SelectedRun], table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Settings and results of runs, a column for each run.

    Settings are those with a short flag, and others if a run is not at their default. Raises
    UserError for a run that is not in the table.
    """
    configs = [run.config.canonical() for run in runs]
    names = [
        spec.name
        for spec in fields(RunConfig)
        if spec.metadata["changes_result"]
        and (spec.metadata["short"] or any(getattr(c, spec.name) != spec.default for c in configs))
    ]
    results = result_columns(table, column)
    columns = {}
    for run, config in zip(runs, configs, strict=True):
        row = _row_of(run, table)
        low, high = wilson_interval(row[TEST_ACCURACY], number_of_test_images(row))
        values = {name: getattr(config, name) for name in names}
        columns[run.title] = {
            **{
                ("setting", name.replace("_", " ")): "" if value is None else value
                for name, value in values.items()
            },
            **{("result", result.title): row[result.name] for result in results},
            ("result", "test accuracy, low 95 %"): low,
            ("result", "test accuracy, high 95 %"): high,
        }
    return pd.DataFrame(columns, dtype=object)


def _row_of(run: SelectedRun, table: pd.DataFrame) -> dict[str, Any]:
    if "run_id" in table:
        rows = records(drop_aliases(table[table["run_id"] == run.config.id]))
        if rows:
            return rows[0]
    raise UserError(f"{run.folder.path}: its run is not in the table")


def worst_classes(runs: Sequence[tuple[SelectedRun, Predictions]]) -> pd.DataFrame:
    """The accuracy of each class under each run, and the classes it is most often taken for.

    Rows are in the order of the first run, its worst class first.
    """
    columns: dict[tuple[str, str], dict[str, Any]] = {}
    for run, predictions in runs:
        worst = worst_first(class_results(confusion_matrix(predictions), run.data.classes))
        columns[run.title, "accuracy"] = {result.name: result.accuracy for result in worst}
        columns[run.title, "most taken for"] = {result.name: _taken_for(result) for result in worst}
    return pd.DataFrame(columns, index=list(next(iter(columns.values()))))


def _taken_for(result: ClassResult) -> str:
    return ", ".join(f"{other.name} {other.images}" for other in result.confusions[:2])
