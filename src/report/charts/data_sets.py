"""Each architecture across the data sets of a table: its best run on each, with its interval."""

from collections.abc import Mapping

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from src.data.spec import title_of_data
from src.report.charts.figure import add_heading, line_color, line_marker
from src.report.charts.overall import best_of_each, by_data_set
from src.report.charts.top_k import RankedRun
from src.report.report_data import ReportData
from src.report.table import ARCHITECTURE, DATASET, MODEL, column_label

_SPREAD = 0.5  # of the architectures of a data set around its line, of the distance of two lines


def figure(report: ReportData) -> Figure | None:
    """The chart of a report. Returns None if its table has one data set."""
    rows = best_by_data_set(report.configurations, report.rank_column)
    if len(rows) < 2:
        return None
    subtitle = (
        f"the best run of each by {column_label(report.rank_column)}; a rank on one data set says "
        "nothing about another"
    )
    drawn = [run.row for best in rows.values() for run in best.values()]
    return draw(rows, subtitle, report.accuracy_note(drawn=drawn))


def best_by_data_set(table: pd.DataFrame, column: str) -> dict[str, dict[str, RankedRun]]:
    """The best run of each architecture on each data set: {data set: {architecture: run}}.

    Data sets are in the order of the table. Runs whose data set is unknown are left out.
    """
    if DATASET not in table:
        return {}
    groups = by_data_set(best_of_each(table, column))
    return {
        name: {str(run.row.get(ARCHITECTURE, run.row[MODEL])): run for run in groups[name]}
        for name in table[DATASET].dropna().unique()
        if name in groups
    }


def draw(rows: Mapping[str, Mapping[str, RankedRun]], subtitle: str, note: str) -> Figure:
    """A line for each data set, and on it a point with its interval for each architecture."""
    names = list(dict.fromkeys(name for best in rows.values() for name in best))
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((9, 1.6 + 0.9 * len(rows)), layout="constrained")
        axes = figure.subplots()
    for index, name in enumerate(names):
        shift = _SPREAD * ((index + 0.5) / len(names) - 0.5)
        mine = [
            (place + shift, best[name]) for place, best in enumerate(rows.values()) if name in best
        ]
        values = [run.accuracy for _, run in mine]
        axes.errorbar(
            values,
            [place for place, _ in mine],
            xerr=[
                [run.accuracy - run.low for _, run in mine],
                [run.high - run.accuracy for _, run in mine],
            ],
            fmt=line_marker(index),
            color=line_color(index),
            capsize=3,
            label=name,
        )
        for place, run in mine:
            axes.annotate(
                f"{run.accuracy:.1%}", (run.high, place), xytext=(5, 0),
                textcoords="offset points", va="center", size=9, color="0.3",
            )  # fmt: skip
    axes.set(yticks=range(len(rows)), yticklabels=[title_of_data(name) for name in rows])
    axes.set(xlabel="test accuracy", xlim=(0, 1.06), ylim=(len(rows) - 0.5, -0.5))
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    axes.grid(visible=False, axis="y")  # it would run through the numbers
    sns.despine(figure, left=True)
    add_heading(figure, "Each architecture across the data sets", f"{subtitle}. {note}")
    return figure
