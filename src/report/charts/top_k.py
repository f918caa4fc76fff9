"""The k best runs of each architecture, as bars with 95 % intervals."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from src.common.paths import file_name
from src.common.result_values import StopReason
from src.report.charts.figure import wrapped
from src.report.replicates import DEVIATION, HIGH, LOW, SEEDS
from src.report.report_data import ReportData
from src.report.settings import describe_runs
from src.report.statistics import AccuracyEstimate, wilson_interval
from src.report.table import (
    MODEL,
    PER_CLASS_ACCURACY,
    TEST_ACCURACY,
    cell_text,
    column_label,
    drop_aliases,
    number_of_test_images,
    rank,
    records,
)

_WIDTH = 9.0  # inches
_BAR_OFFSET = 0.19  # of the two bars of a run from its middle; a run is 1 high


@dataclass(frozen=True, kw_only=True)
class RankedRun(AccuracyEstimate):
    """A run in a ranking. Accuracies are shares from 0 to 1."""

    label: str
    """What is different from the other runs of the ranking."""
    per_class_accuracy: float
    seeds: int
    """Number of seeds, of which the accuracies are means."""
    pruned_after: int | None
    """Epochs after which a pruner ended the run. None: it was not pruned."""
    row: dict[str, Any]


@dataclass(frozen=True)
class TopK:
    """The k best runs of an architecture, best first."""

    model: str
    runs: list[RankedRun]
    shared: str
    """The settings that all of them have in common, in words."""
    candidates: int
    """Trainings of the architecture in the table."""
    rank_column: str

    @property
    def noun(self) -> str:
        """What is ranked, in words."""
        return "configurations" if any(run.seeds > 1 for run in self.runs) else "runs"


def top_k(table: pd.DataFrame, model: str, k: int, column: str) -> TopK:
    """The k best runs of an architecture by a column of the table."""
    rows = table[table[MODEL] == model]
    best = records(rank(rows, column).head(k))
    names = ("num_epochs", "batch_size")
    further = [name for name in names if name in rows and rows[name].notna().all()]
    shared, labels = describe_runs(best, dict.fromkeys(further))
    if any(row.get(SEEDS, 1) > 1 for row in best):
        pairs = zip(labels, best, strict=True)
        labels = [f"{label}\none seed" if row[SEEDS] == 1 else label for label, row in pairs]
    runs = [ranked_run(row, label) for row, label in zip(best, labels, strict=True)]
    return TopK(model, runs, shared, len(drop_aliases(rows)), column)


def ranked_run(row: dict[str, Any], label: str) -> RankedRun:
    """A row of the table as a run of a ranking."""
    accuracy = row[TEST_ACCURACY]
    seeds = int(row.get(SEEDS, 1))
    low, high = wilson_interval(accuracy, number_of_test_images(row))
    if seeds > 1:
        low, high = row[LOW], row[HIGH]
        label += f"\nmean of {seeds} seeds, deviation {100 * row[DEVIATION]:.2f} points"
    pruned_after = int(row["epochs_run"]) if row.get("stop_reason") == StopReason.PRUNED else None
    if pruned_after is not None:
        label += f"\npruned after {pruned_after} epochs"
    return RankedRun(
        label=label,
        accuracy=accuracy,
        low=low,
        high=high,
        per_class_accuracy=row[PER_CLASS_ACCURACY],
        seeds=seeds,
        pruned_after=pruned_after,
        row=row,
    )


def rankings(report: ReportData) -> Iterator[TopK]:
    """The top k of each architecture that has a run with a value to rank by."""
    for model in report.models:
        top = top_k(report.configurations, model, report.k, report.rank_column)
        if top.runs:
            yield replace(top, runs=[_with_right_images(run, report) for run in top.runs])


def _with_right_images(run: RankedRun, report: ReportData) -> RankedRun:
    """The run, with on which images it was right if it is a single one."""
    run_id = cell_text(run.row.get("run_id"))
    return replace(run, is_right=report.right_images(run_id)) if run.seeds == 1 else run


def figures(report: ReportData) -> Iterator[tuple[str, Figure]]:
    """File name, <model>_top_k, and chart of each architecture's best runs."""
    for top in rankings(report):
        note = report.accuracy_note(top.model, drawn=[run.row for run in top.runs])
        yield file_name(f"{top.model}_top_k"), draw(top, note)


def draw(top: TopK, note: str) -> Figure:
    """The chart of an architecture. note: the footnote."""
    title = f"{top.model}: the {len(top.runs)} best of {top.candidates} {top.noun}"
    subtitle = f"ranked by {column_label(top.rank_column)}"
    if top.shared and len(top.runs) > 1:
        subtitle += f"; all of them: {top.shared}"
    return draw_accuracy_bars(top.runs, title, subtitle, note)


def axis_start(lows: list[float]) -> float:
    """Lower limit of an accuracy axis: a multiple of 5 % below the lowest value.

    On an axis from 0, accuracies within a few per cent of each other would look equal.
    """
    lowest = min(lows)
    return 0.0 if lowest < 0.3 else max(0.0, math.floor(round(lowest * 20 - 1, 6)) / 20)


def draw_accuracy_bars(runs: Sequence[RankedRun], title: str, subtitle: str, note: str) -> Figure:
    """Two horizontal bars for each run: test accuracy with its interval, and per class."""
    names = [f"{rank}. {wrapped(run.label)}" for rank, run in enumerate(runs, 1)]
    data = pd.DataFrame(
        {
            "run": names * 2,
            "measure": ["test accuracy"] * len(runs) + ["mean per-class accuracy"] * len(runs),
            "value": [run.accuracy for run in runs] + [run.per_class_accuracy for run in runs],
        }
    )
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((_WIDTH, 2.4 + 0.75 * len(runs)), layout="constrained")
        axes = figure.subplots()
        sns.barplot(data, y="run", x="value", hue="measure", palette="deep", ax=axes, width=0.76)
    start = axis_start([run.low for run in runs])
    end = min(1.0, max(run.high for run in runs) + 0.22 * (1 - start))
    axes.set_xlim(start, end)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set(ylabel="", xlabel=f"accuracy (axis begins at {start:.0%})" if start else "accuracy")
    for index, run in enumerate(runs):
        _annotate(axes, index, run, margin=0.012 * (end - start))
    handles, labels = axes.get_legend_handles_labels()
    if legend := axes.get_legend():
        legend.remove()
    figure.legend(handles, labels, loc="outside upper right", frameon=False)
    sns.despine(figure, left=True)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=14)
    axes.set_title(wrapped(subtitle, 100), loc="left", size=10, color="0.3")
    figure.supxlabel(wrapped(note, 125), size=8, color="0.35", x=0.01, ha="left")
    return figure


def _annotate(axes: Axes, index: int, run: RankedRun, margin: float) -> None:
    """Write values and interval beside the bars of a run, and hatch them if it was pruned."""
    if run.pruned_after is not None:
        for bars in axes.containers[:2]:
            bars[index].set(alpha=0.5, hatch="//")
    reach = [[run.accuracy - run.low], [run.high - run.accuracy]]
    axes.errorbar(run.accuracy, index - _BAR_OFFSET, xerr=reach, color="0.15", capsize=3, lw=1.3)
    for offset, value, tip in (
        (-_BAR_OFFSET, run.accuracy, run.high),
        (_BAR_OFFSET, run.per_class_accuracy, run.per_class_accuracy),
    ):
        axes.text(tip + margin, index + offset, f"{value:.2%}", va="center", size=10)
