"""Main effects: mean and best of the runs with each level of each hyperparameter."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from src.report.charts.figure import ModelIndices, add_heading, line_color, line_marker
from src.report.report_data import ReportData
from src.report.settings import Setting, varied_factors
from src.report.statistics import comparable_runs
from src.report.table import column_label, is_share, lower_is_better

FEWEST_RUNS = 4
"""Of an architecture. With fewer, means over runs are numbers of single runs."""
PANELS_IN_A_ROW = 3


@dataclass(frozen=True)
class MainEffect:
    """A setting of an architecture; tuples have an entry for each of its levels."""

    setting: Setting
    means: tuple[float | None, ...]
    """Of the column over the runs with the level. None: there is no such run."""
    best: tuple[float | None, ...]
    runs: tuple[int, ...]


def main_effects(table: pd.DataFrame, model: str, column: str) -> list[MainEffect]:
    """The main effects of every varied setting. Empty if there are fewer than four runs."""
    rows = comparable_runs(table, model, column)
    if len(rows) < FEWEST_RUNS:
        return []
    return [_main_effect(rows, column, setting) for setting in varied_factors(rows)]


def _main_effect(rows: pd.DataFrame, column: str, setting: Setting) -> MainEffect:
    by_level = rows[column].groupby(setting.codes(rows))
    best = by_level.min() if lower_is_better(column) else by_level.max()
    means, sizes, levels = by_level.mean(), by_level.size(), range(len(setting.levels))
    return MainEffect(
        setting=setting,
        means=tuple(_value(means, level) for level in levels),
        best=tuple(_value(best, level) for level in levels),
        runs=tuple(int(sizes.get(level, 0)) for level in levels),
    )


def _value(values: "pd.Series[float]", level: int) -> float | None:
    return float(values[level]) if level in values else None


def effects_by_model(report: ReportData) -> dict[str, list[MainEffect]]:
    """The main effects of a report by architecture, without architectures that have none."""
    runs, column = report.configurations, report.rank_column
    effects = {model: main_effects(runs, model, column) for model in report.models}
    return {model: of_model for model, of_model in effects.items() if of_model}


def figure(report: ReportData) -> Figure | None:
    """The chart of a report. Returns None if no setting varies."""
    effects = effects_by_model(report)
    if not effects:
        return None
    return draw(effects, report.model_indices, report.rank_column, report.missing_note())


def draw(
    effects: Mapping[str, Sequence[MainEffect]], indices: ModelIndices, column: str, note: str
) -> Figure:
    """A panel for each setting: means as a line for each architecture, the best as dashes."""
    names = list(dict.fromkeys(e.setting.name for of_model in effects.values() for e in of_model))
    columns = min(PANELS_IN_A_ROW, len(names))
    rows = math.ceil(len(names) / columns)
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((4 * columns, 3.1 * rows + 0.5))
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    panels = list(grid.flat)
    for axes, name in zip(panels, names, strict=False):
        _draw_panel(axes, name, effects, indices)
        if is_share(column):
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    sns.despine(figure)
    figure.legend(
        handles=list(_legend(effects, indices)), loc="outside lower center", ncols=4, frameon=False
    )
    title = f"Main effects on the {column_label(column)}"
    add_heading(figure, title, f"Means of all runs with a value. {note}")
    return figure


def _draw_panel(
    axes: Axes, name: str, effects: Mapping[str, Sequence[MainEffect]], indices: ModelIndices
) -> None:
    of_setting = {
        model: [effect for effect in of_model if effect.setting.name == name]
        for model, of_model in effects.items()
    }
    labels = list(
        dict.fromkeys(
            label for found in of_setting.values() for e in found for label in e.setting.labels
        )
    )
    for model, of_model in of_setting.items():
        color, marker = line_color(indices[model]), line_marker(indices[model])
        for effect in of_model:
            levels = zip(effect.setting.labels, effect.means, effect.best, strict=True)
            points = [(labels.index(x), mean, best) for x, mean, best in levels if mean is not None]
            x, means, best = zip(*points, strict=True)
            axes.plot(x, means, color=color, marker=marker)
            axes.scatter(x, best, color=color, marker="_", s=140)
    axes.set_xticks(range(len(labels)), labels)
    axes.set(title=name.replace("_", " "), xlim=(-0.4, len(labels) - 0.6))


def _legend(effects: Mapping[str, Sequence[MainEffect]], indices: ModelIndices) -> Iterator[Line2D]:
    for model in effects:
        color, marker = line_color(indices[model]), line_marker(indices[model])
        yield Line2D([], [], color=color, marker=marker, label=model)
    yield Line2D([], [], color="0.4", ls="", marker="_", ms=12, label="the best")
