"""All runs as points: validation accuracy against test accuracy."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from src.common.result_values import TEST_ACCURACY
from src.report.charts.figure import ModelIndices, add_heading, line_color, line_marker
from src.report.report_data import ReportData
from src.report.table import MODEL, column_label, is_pruned, rank_column


def figure(report: ReportData) -> Figure | None:
    """The chart of a report. Returns None if the table has no validation accuracies."""
    x = rank_column(report.runs, None)
    rows = report.shown_runs.dropna(subset=[x, TEST_ACCURACY])
    if x == TEST_ACCURACY or rows.empty:
        return None
    return draw(rows, report.model_indices, x, report.missing_note(of_single_runs=True))


def draw(rows: pd.DataFrame, indices: ModelIndices, x: str, note: str) -> Figure:
    """The rows of a table by column `x` and their test accuracy; pruned runs are crosses."""
    y = TEST_ACCURACY
    pruned = is_pruned(rows)
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((7.5, 5.4))
        axes = figure.subplots()
    for model, index in indices.items():
        of_model = rows[rows[MODEL] == model]
        if of_model.empty:
            continue
        for is_cross in (False, True):
            part = of_model[pruned[of_model.index] == is_cross]
            axes.scatter(
                part[x],
                part[y],
                s=26,
                alpha=0.7,
                color=line_color(index),
                marker="x" if is_cross else line_marker(index),
                linewidths=1.4 if is_cross else 0,
                label=None if is_cross else model,
            )
    low, high = rows[[x, y]].min().max(), rows[[x, y]].max().min()
    axes.plot([low, high], [low, high], color="0.6", lw=1, ls=":", zorder=0, label="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set(xlabel=column_label(x), ylabel=column_label(y))
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    sns.despine(figure)
    crosses = ""
    if count := int(pruned.sum()):
        crosses = f"Crosses: {count} runs that were pruned before their end. "
    title = f"{len(rows):,} runs by {column_label(x)} and {column_label(y)}"
    add_heading(figure, title, crosses + note)
    return figure
