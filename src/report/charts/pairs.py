"""Heat maps of the mean over the runs with each combination of two hyperparameters' levels."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from src.common.paths import file_name
from src.faults.failure_classes import FailureClass
from src.report.charts.figure import add_heading
from src.report.charts.main_effects import PANELS_IN_A_ROW
from src.report.report_data import ReportData
from src.report.settings import Setting, varied_factors
from src.report.statistics import MIN_RUNS, comparable_runs
from src.report.table import column_label, is_share
from src.report.unfinished_runs import DIVERGED, FINISHED, OUTCOME, PRUNED, with_unfinished


@dataclass(frozen=True)
class PairMeans:
    """Means over the runs with each combination of levels of two settings."""

    row_setting: Setting
    column_setting: Setting
    means: pd.DataFrame
    """Levels of row_setting by levels of column_setting, both as labels; NaN without runs."""
    diverged: pd.DataFrame
    """Numbers of diverged runs, in the same form."""
    pruned: pd.DataFrame
    """Numbers of pruned runs, in the same form."""


def pair_means(
    table: pd.DataFrame, model: str, column: str, failed: pd.DataFrame | None = None
) -> list[PairMeans]:
    """The means for every two varied settings. Empty if there are fewer than four finished runs.

    failed: as `Collected.failed`; None if it is not known.
    """
    if len(comparable_runs(table, model, column)) < MIN_RUNS:
        return []
    every = with_unfinished(table, model, column, failed)
    return [_means(every, column, *two) for two in combinations(varied_factors(every), 2)]


def _means(every: pd.DataFrame, column: str, first: Setting, second: Setting) -> PairMeans:
    keys = [pd.Series(setting.codes(every), every.index) for setting in (first, second)]
    means = every[column].where(every[OUTCOME] == FINISHED).groupby(keys).mean()
    counts = ((every[OUTCOME] == outcome).groupby(keys).sum() for outcome in (DIVERGED, PRUNED))
    tables = []
    for cells in (means, *counts):
        full = cells.unstack().reindex(range(len(first.levels)), columns=range(len(second.levels)))
        full.index, full.columns = pd.Index(first.labels), pd.Index(second.labels)
        tables.append(full)
    diverged, pruned = (table.fillna(0).astype(int) for table in tables[1:])
    return PairMeans(first, second, tables[0], diverged, pruned)


def figures(report: ReportData) -> Iterator[tuple[str, Figure]]:
    """File name, <model>_pairs, and chart of each architecture with two varied settings."""
    for model in report.models:
        failed = report.failed_configurations
        if pairs := pair_means(report.averaged, model, report.rank_column, failed):
            missing = report.missing_note(model, without=[FailureClass.DIVERGED])
            note = " ".join(filter(None, [missing, report.apart_note(model)]))
            figure = draw(model, pairs, report.rank_column, note)
            yield file_name(f"{model}_pairs"), figure


def _annotations(pair: PairMeans, factor: float, number_format: str) -> pd.DataFrame:
    """The text of each cell: its mean, and how many of its runs that leaves out."""

    def text(mean: float, diverged: int, pruned: int) -> str:
        mean_text = "" if math.isnan(mean) else format(mean * factor, number_format)
        counts = f"{diverged} div." if diverged else "", f"{pruned} pruned" if pruned else ""
        return "\n".join(filter(None, (mean_text, *counts)))

    tables = (pair.means.to_numpy(float), pair.diverged.to_numpy(), pair.pruned.to_numpy())
    cells = [
        [text(*cell) for cell in zip(*rows, strict=True)] for rows in zip(*tables, strict=True)
    ]
    return pd.DataFrame(cells, pair.means.index, pair.means.columns)


def _caption(pairs: Sequence[PairMeans]) -> str:
    """What the numbers in the cells are."""
    diverged = any(pair.diverged.to_numpy().any() for pair in pairs)
    pruned = any(pair.pruned.to_numpy().any() for pair in pairs)
    counts = " or ".join(["diverged (div.)"] * diverged + ["were pruned"] * pruned)
    below = f"; below it, how many {counts} and are left out" if counts else ""
    return f"Mean over the finished runs with both values{below}."


def draw(model: str, pairs: Sequence[PairMeans], column: str, note: str) -> Figure:
    """The heat maps of an architecture, on one colour scale."""
    columns = min(PANELS_IN_A_ROW, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    share = is_share(column)
    factor = 100 if share else 1
    lowest = min(float(pair.means.min().min()) for pair in pairs) * factor
    highest = max(float(pair.means.max().max()) for pair in pairs) * factor
    with sns.axes_style("white"), sns.plotting_context("notebook", font_scale=0.9):
        figure = Figure((4.2 * columns, 3.3 * rows + 0.4))
        grid = figure.subplots(rows, columns, squeeze=False)
    panels = list(grid.flat)
    for axes, pair in zip(panels, pairs, strict=False):
        sns.heatmap(
            pair.means.astype(float) * factor,
            ax=axes,
            vmin=lowest,
            vmax=highest,
            cmap="viridis",
            annot=_annotations(pair, factor, ".1f" if share else ".3g"),
            fmt="",
            annot_kws={"size": 9},
            cbar=False,
            linewidths=1,
        )
        axes.set(xlabel=pair.column_setting.title, ylabel=pair.row_setting.title)
        axes.tick_params(axis="both", length=0, rotation=0)
    for axes in panels[len(pairs) :]:
        axes.set_visible(False)
    unit = " (%)" if share else ""
    title = f"{model}: mean {column_label(column)}{unit} for each pair of settings"
    add_heading(figure, title, f"{_caption(pairs)} {note}".strip())
    return figure
