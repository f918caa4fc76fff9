"""All that the page shows, as plain values: what is read at once, and what is read of one run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from src.common.errors import UserError
from src.common.progress import ShowProgress
from src.data.dataset import CLASSES
from src.report import charts, command, numbers, table
from src.report.chosen import Chosen
from src.report.page import details, rows, standing
from src.report.settings import MODEL, settings, text, told

if TYPE_CHECKING:
    from src.report.build import Report

_PICTURED = 5  # runs of each architecture with pictures of their mistakes


@dataclass(frozen=True)
class Content:
    """The numbers of the page."""

    core: dict[str, Any]
    """Of the sweep and of all rows; what the page shows when it opens."""
    runs: dict[str, Any]
    """By a row's key: what is shown of it when it is chosen."""


def content(report: "Report", watch: float | None = None) -> Content:
    """Everything that is known of a report's runs. watch: seconds until it is written again."""
    left_out: list[str] = []
    ids = told(report.runs, "run_id")
    found, runs = report.folders, report.full
    varied = settings(
        runs, sorted({name for run in found.values() for name in run.config.as_dict()})
    )
    shown = rows.measures(runs, report.column)
    columns = rows.columns(runs, varied, shown)
    models = table.architectures(runs)
    pictures = details.LabelledImages()
    best = _best(report, models)
    of_runs = _of_runs(runs, columns["key"], ids, found, report.show_progress)
    _add_pictures(of_runs, found, best, pictures, left_out, report.show_progress)
    core = {
        "title": "Sweep on CIFAR-10",
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "watch": watch,
        "rank": {"column": report.column, "words": charts.words(report.column)},
        "lower_is_better": table.lower_is_better(report.column),
        "models": models,
        "classes": list(CLASSES),
        "settings": [
            {"name": s.name, "words": s.words, "labels": [] if s.is_wide else s.labels}
            | {"wide": s.is_wide}
            for s in varied
        ],
        "measures": [asdict(measure) for measure in shown],
        "columns": columns,
        "importance": [asdict(one) for one in report.importances],
        "tops": [top(one) | {"findings": report.findings[one.model]} for one in report.top_k()],
        "overall": (overall := best_of_each(numbers.overall(runs, report.column))),
        "overall_scale": scale(overall),
        "standing": asdict(stands := _standing(report, models)) | {"total": stands.total},
        "chosen": [columns["key"][place] for place in _first_of_each(best)],
        "pictures": {"png": pictures.png(), "columns": pictures.COLUMNS},
    }
    core["unknown"] = unknown(report, core, of_runs) + left_out
    return Content(core, of_runs)


def run_of(bar: numbers.Bar) -> dict[str, Any]:
    """A run of a chart as the page holds it."""
    return {
        "model": str(bar.row[MODEL]),
        "label": _one_line(bar.label),
        "settings": [str(value) for value in (bar.row[name] for name in numbers.SETTINGS)],
        "accuracy": bar.accuracy,
        "low": bar.low,
        "high": bar.high,
        "per_class": bar.per_class_accuracy,
        "validation": _first_told(bar.row, ("best_val_accuracy", "val_accuracy")),
        "images": rows.images_of(bar.row),
        "pruned_after": bar.pruned_after,
        "run_id": text(bar.row.get("run_id")),
    }


def best_of_each(bars: Sequence[numbers.Bar]) -> list[dict[str, Any]]:
    """The best run of each architecture; its label need not tell which one."""
    return [
        run_of(bar) | {"label": _one_line(bar.label.partition("\n")[2] or bar.label)}
        for bar in bars
    ]


def top(of_model: numbers.TopK) -> dict[str, Any]:
    """The best runs of an architecture, each with what sets it apart from the most accurate."""
    most = max(of_model.bars, key=lambda bar: bar.accuracy)
    runs = [
        run_of(bar)
        | {
            "behind": most.accuracy - bar.accuracy,
            "within_noise": numbers.within_noise(most, bar),
            "is_most_accurate": bar is most,
        }
        for bar in of_model.bars
    ]
    return {
        "model": of_model.model,
        "runs": of_model.runs,
        "shared": _one_line(of_model.shared),
        "bars": runs,
        "scale": scale(runs),
    }


def scale(bars: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Where a drawing of intervals begins and ends: whole per cents around all of them."""
    low = min((bar["low"] for bar in bars), default=0.0)
    high = max((bar["high"] for bar in bars), default=1.0)
    return math.floor(100 * low) / 100, math.ceil(100 * high) / 100


def unknown(report: "Report", core: Mapping[str, Any], runs: Mapping[str, Any]) -> list[str]:
    """What the page cannot tell, and why, in words."""
    found = []
    if report.runs_dir is None:
        found.append(
            "Learning curves, confusion matrices, pictures of mistakes, t-SNE, failures and wasted "
            "time: they are in run folders, which a table does not hold (--runs DIR names them)."
        )
    known = {measure["name"] for measure in core["measures"]}
    if "best_val_accuracy" not in known:
        found.append(
            "The best validation accuracy of each run: the table has no column "
            f"best_val_accuracy; runs are ranked by {core['rank']['words']}."
        )
    if report.runs_dir is None and "train_seconds" not in known:
        found.append("Device time: the table has no column train_seconds.")
    if "test_images" not in report.runs:
        found.append(
            f"How many images judged the runs: {numbers.TEST_IMAGES:,} test images are assumed."
        )
    lacking = {
        "no_curves": "learning curves",
        "no_confusion": "a confusion matrix",
    }
    for key, words in lacking.items():
        reasons = [run[key] for run in runs.values() if key in run]
        if reasons:
            found.append(f"{len(reasons)} runs are without {words}, e.g. {reasons[0]}.")
    if report.runs_dir is not None:
        gone = sum("command" not in run or "folder" not in run for run in runs.values())
        if gone:
            found.append(f"{gone} rows have no run folder under {report.runs_dir}.")
    return found


def _standing(report: "Report", models: Sequence[str]) -> standing.Standing:
    """Architectures in the table's order, those without a finished run last."""
    if report.runs_dir is None:
        return standing.of_table(report.runs)
    found = standing.of_folders(report.runs_dir, report.sets)
    order = [model for model in dict.fromkeys([*models, *found.cells]) if model in found.cells]
    return replace(found, cells={model: found.cells[model] for model in order})


def _of_runs(
    runs: pd.DataFrame,
    keys: Sequence[str],
    ids: Sequence[str | None],
    found: Mapping[str, Chosen],
    show_progress: ShowProgress,
) -> dict[str, Any]:
    """What is shown of each row: of its run folder, or of the row alone."""
    of_runs: dict[str, Any] = {}
    known: dict[str, dict[str, Any]] = {}
    rows_of = list(zip(keys, ids, runs.to_dict("records"), strict=True))
    for key, run_id, row in show_progress(rows_of, "runs of the page"):
        if run_id and run_id in known:
            of_runs[key] = {"same_as": run_id}
            continue
        if run_id in found:
            of_runs[key] = details.of_run(found[str(run_id)])
        else:
            plain = {str(name): value for name, value in row.items() if not pd.isna(value)}
            of_runs[key] = {"command": command.of_row(plain), "partly": True}
        shares = rows.per_class(row)
        if "worst" not in of_runs[key] and shares:
            of_runs[key]["worst"] = details.worst_of_shares(shares)
        if run_id:
            known[run_id] = of_runs[key]
    return of_runs


def _best(report: "Report", models: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The best rows of each architecture, with their places in the table."""
    ranked = table.ranked(report.runs.reset_index(drop=True), report.column)
    return {model: ranked[ranked[MODEL] == model].head(_PICTURED) for model in models}


def _first_of_each(best: Mapping[str, pd.DataFrame]) -> list[int]:
    return [int(top.index[0]) for top in best.values() if len(top)]


def _add_pictures(
    of_runs: dict[str, Any],
    found: Mapping[str, Chosen],
    best: Mapping[str, pd.DataFrame],
    pictures: details.LabelledImages,
    left_out: list[str],
    show_progress: ShowProgress,
) -> None:
    """Mistakes of the best runs of each architecture, and the t-SNE of the best one."""
    for top in show_progress(list(best.values()), "mistakes and t-SNE of architectures"):
        ids = [run_id for run_id in told(top, "run_id") if run_id in found]
        for place, run_id in enumerate(ids):
            run = found[str(run_id)]
            try:
                of_runs[str(run_id)]["mistakes"] = details.mistakes(run, pictures)
                if place == 0:
                    of_runs[str(run_id)]["plane"] = details.plane(run)
            except UserError as error:
                left_out.append(f"Pictures or t-SNE of {run.title}: {error}.")


def _one_line(label: str) -> str:
    return label.replace("\n", ", ").replace("\N{NO-BREAK SPACE}", " ")


def _first_told(row: Mapping[str, Any], names: Sequence[str]) -> float | None:
    told = (row.get(name) for name in names)
    return next((float(value) for value in told if value is not None and not pd.isna(value)), None)
