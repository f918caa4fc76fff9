"""The numbers and texts of the page as plain values: what it shows at once, and of each run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from src.common.errors import UserError
from src.common.progress import ShowProgress, silent
from src.common.result_values import BEST_VAL_ACCURACY
from src.data.spec import CLASSES
from src.report import reproduce_command, table
from src.report.charts.importance import Importance, importances
from src.report.charts.main_effects import effects_of_runs, left_out_note
from src.report.charts.overall import best_of_each, by_data_set
from src.report.charts.top_k import rankings
from src.report.page.confirmed_view import confirmed_view, several_seeds_view
from src.report.page.run_details import (
    SpriteSheet,
    embedding,
    large_confusion,
    mistakes,
    run_details,
    worst_by_accuracy,
)
from src.report.page.run_table import (
    ResultColumn,
    axis_limits,
    best_of_each_view,
    class_accuracies,
    column_values,
    result_columns,
    top_k_view,
)
from src.report.page.sweep_state import SweepState, state_of_table
from src.report.report_data import ReportData
from src.report.run_analysis.run_selection import SelectedRun
from src.report.settings import HYPERPARAMETERS, Setting, settings_of, varied_columns, varied_fields
from src.report.statistics import is_in_sweep
from src.report.table import MODEL, TEST_IMAGES
from src.report.text_summary import sentences_by_model

_RUNS_WITH_MISTAKES = 5  # of each architecture
_PASSING = ("running", "interrupted")  # shown only where a cell has such a state


@dataclass(frozen=True)
class PageData:
    """The data of the page. Values are those of JSON."""

    core: dict[str, Any]
    """What is shown when the page opens: the sweep, and all rows of the table."""
    runs: dict[str, Any]
    """What is shown when a run is opened, by the row's key."""


def page_data(
    report: ReportData,
    state: SweepState | None = None,
    *,
    watch: float | None = None,
    show_progress: ShowProgress = silent,
) -> PageData:
    """The data of a report's page.

    state: of the run folders. None: of the table. watch: seconds until the page is written again.
    """
    folders, runs = report.folders, report.shown_runs
    configs = [run.config for run in folders.values()]
    names = varied_fields(configs) if configs else varied_columns(runs)
    settings, results = settings_of(runs, names), result_columns(runs, report.rank_column)
    columns, models = column_values(runs, settings, results), report.models
    confirming = report.is_confirming[runs.index]
    columns["in_sweep"] = (is_in_sweep(runs) & ~confirming).tolist()
    best, images = _best_rows(report), SpriteSheet()
    details = _details(report, columns["key"], show_progress)
    left_out = _add_images(details, folders, best, images, show_progress)
    by_data = by_data_set(best_of_each(report.configurations, report.rank_column))
    overall = best_of_each_view([run for runs in by_data.values() for run in runs])
    core = {
        "title": f"Sweep on {table.data_in_words(runs) or 'CIFAR-10'}",
        "data_sets": len(table.data_titles(runs)),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "watch": watch,
        "rank": {"column": report.rank_column, "title": table.column_label(report.rank_column)},
        "lower_is_better": table.lower_is_better(report.rank_column),
        "models": models,
        "classes": list(CLASSES),
        "settings": [_setting_view(setting) for setting in settings],
        "measures": [_result_view(result) for result in results],
        "columns": columns,
        "importance": [_importance_view(estimate) for estimate in importances(report)],
        "rankings": [
            top_k_view(top) | {"findings": sentences_by_model(report)[top.model]}
            for top in rankings(report)
        ],
        "overall": overall,
        "left_out": left_out_note(
            effects_of_runs(report), failures_known=report.failed is not None
        ),
        "apart": _not_averaged(report),
        "confirmed": [confirmed_view(confirmation) for confirmation in report.confirmations],
        "several_seeds": several_seeds_view(report, columns["key"]),
        "overall_scale": axis_limits(overall),
        "sweep": _state_view((state or state_of_table(runs)).sorted_by(models)),
        "best_keys": [columns["key"][int(rows.index[0])] for rows in best.values() if len(rows)],
        "pictures": {"png": images.png(), "columns": images.COLUMNS},
    }
    core["unknown"] = _unknown(report, core, details) + left_out
    return PageData(core, details)


def _not_averaged(report: ReportData) -> str:
    """Which runs the means of the page leave out."""
    confirming = int(report.is_confirming[report.shown_runs.index].sum())
    note = f"The {confirming} runs that confirm a choice are not averaged." if confirming else ""
    return " ".join(filter(None, [report.apart_note(), note]))


def _setting_view(setting: Setting) -> dict[str, Any]:
    return {
        "name": setting.name,
        "title": setting.title,
        "labels": [] if setting.is_continuous else setting.labels,
        "is_continuous": setting.is_continuous,
        "is_published": setting.name in HYPERPARAMETERS,
        "unset": len(setting.levels) - 1 if setting.levels[-1] is None else None,
    }


def _result_view(result: ResultColumn) -> dict[str, Any]:
    return {
        "name": result.name,
        "title": result.title,
        "kind": result.kind,
        "lower_is_better": table.lower_is_better(result.name),
    }


def _importance_view(estimate: Importance) -> dict[str, Any]:
    return {
        "model": estimate.model,
        "runs": estimate.runs,
        "shares": estimate.shares,
        "why_not": estimate.reason,
    }


def _state_view(state: SweepState) -> dict[str, Any]:
    return {
        "cells": state.cells,
        "states": [name for name, count in state.total.items() if count or name not in _PASSING],
        "reference": state.reference,
        "device_hours": state.device_hours,
        "training_hours": state.training_hours,
        "wasted_hours": state.wasted_hours,
        "failures": state.failures,
        "total": state.total,
    }


def _unknown(report: ReportData, core: Mapping[str, Any], runs: Mapping[str, Any]) -> list[str]:
    """What the page cannot show, and why, in sentences."""
    lines, names = [], {measure["name"] for measure in core["measures"]}
    if report.runs_dir is None:
        lines.append(
            "Learning curves, confusion matrices, pictures of mistakes, t-SNE, failures and wasted "
            "time: they are in run folders, which a table does not hold (--runs DIR names them)."
        )
    if BEST_VAL_ACCURACY not in names:
        lines.append(
            "The best validation accuracy of each run: the table has no column "
            f"best_val_accuracy; runs are ranked by {core['rank']['title']}."
        )
    if report.runs_dir is None and "train_seconds" not in names:
        lines.append("Training time: the table has no column train_seconds.")
    if "test_images" not in report.runs:
        lines.append(f"The number of test images: {TEST_IMAGES:,} test images are assumed.")
    for key, words in (
        ("no_curves", "learning curves"),
        ("no_confusion", "a confusion matrix"),
    ):
        reasons = [run[key] for run in runs.values() if key in run]
        if reasons:
            lines.append(f"Runs without {words}: {len(reasons)}, e.g. {reasons[0]}.")
    lines += [f"{run['damaged']}." for run in runs.values() if "damaged" in run]
    if report.runs_dir is not None:
        gone = sum("command" not in run or "folder" not in run for run in runs.values())
        if gone:
            lines.append(f"Rows without a run folder under {report.runs_dir}: {gone}.")
    return lines


def _details(
    report: ReportData, keys: Sequence[str], show_progress: ShowProgress
) -> dict[str, Any]:
    """Details by key: of the run folder, or, without one, of the row. Aliases refer to a run."""
    details: dict[str, Any] = {}
    seen: set[str] = set()
    runs = report.shown_runs
    run_ids = table.run_ids(runs)
    rows = list(zip(keys, run_ids, table.records(runs), strict=True))
    for key, run_id, row in show_progress(rows, "runs of the page"):
        if run_id and run_id in seen:
            details[key] = {"same_as": run_id}
            continue
        if run_id in report.folders:
            details[key] = run_details(report.folders[str(run_id)])
        else:
            filled = {name: value for name, value in row.items() if not pd.isna(value)}
            details[key] = {"command": reproduce_command.from_row(filled), "from_table_only": True}
        accuracies = class_accuracies(row)
        if "worst" not in details[key] and accuracies:
            details[key]["worst"] = worst_by_accuracy(accuracies)
        if run_id:
            seen.add(run_id)
    return details


def _best_rows(report: ReportData) -> dict[str, pd.DataFrame]:
    """The best rows of each architecture. Their index is the position in the table."""
    ranked = table.rank(report.shown_runs.reset_index(drop=True), report.rank_column)
    return {
        model: ranked[ranked[MODEL] == model].head(_RUNS_WITH_MISTAKES) for model in report.models
    }


def _add_images(
    details: dict[str, Any],
    folders: Mapping[str, SelectedRun],
    best: Mapping[str, pd.DataFrame],
    images: SpriteSheet,
    show_progress: ShowProgress,
) -> list[str]:
    """Add mistakes of each architecture's best runs, and t-SNE of the best; returns failures."""
    failures: list[str] = []
    for rows in show_progress(list(best.values()), "mistakes and t-SNE of architectures"):
        run_ids = [str(i) for i in table.run_ids(rows) if i in folders]
        for rank, run_id in enumerate(run_ids):
            run = folders[run_id]
            try:
                details[run_id] |= large_confusion(run)
                details[run_id]["mistakes"] = mistakes(run, images)
                if rank == 0:
                    details[run_id]["tsne"] = embedding(run)
            except UserError as error:
                failures.append(f"Pictures or t-SNE of {run.title}: {error}.")
    return failures
