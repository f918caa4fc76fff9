"""Main effects: a panel for each hyperparameter, a line for each architecture."""

import math

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from src.errors import UserError
from src.report.charts import head, words
from src.report.drawing.marks import colour, marker
from src.report.main_effects import Effect

_COLUMNS = 3


def draw(effects: list[Effect], column: str) -> Figure:
    """Means over the runs (lines) and the best of them (dashes) by the value of each setting.

    Raises UserError where no setting varies.
    """
    if not effects:
        raise UserError("main effects: no setting varies")
    down, across = math.ceil(len(effects) / _COLUMNS), min(_COLUMNS, len(effects))
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((11, 0.8 + 3.1 * down), layout="constrained")
        panels = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes in panels.flat[len(effects) :]:
        axes.set_axis_off()
    for axes, effect in zip(panels.flat, effects, strict=False):
        _panel(axes, effect)
        if "accuracy" in column:
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    sns.despine(figure)
    models = dict.fromkeys(model for effect in effects for model in effect.levels)
    lines = [
        Line2D([], [], color=colour(place), marker=marker(place), label=model)
        for place, model in enumerate(models)
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=4, frameon=False)
    text = "lines: means over the finished runs with a value; dashes: the best of them"
    head(figure, f"Main effects on the {words(column)}", text)
    return figure


def _panel(axes: Axes, effect: Effect) -> None:
    labels = effect.setting.labels
    for place, levels in enumerate(effect.levels.values()):
        at = [labels.index(level.label) for level in levels]
        means, best = [level.mean for level in levels], [level.best for level in levels]
        axes.plot(at, means, color=colour(place), marker=marker(place), ms=5, lw=2)
        axes.plot(at, best, color=colour(place), marker="_", ms=12, mew=2, ls="")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_title(effect.setting.words, loc="left", size=11, weight="bold")
