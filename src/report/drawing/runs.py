"""Every run as a line across its settings, and as a point of validation and test accuracy."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from src.report.charts import head, words
from src.report.drawing.marks import Places, colour, marker
from src.report.parallel import Axis
from src.report.settings import MODEL
from src.report.table import is_pruned

_BEND = np.linspace(0, 1, 24)
_EASED = _BEND**2 * (3 - 2 * _BEND)  # a run leaves an axis, and reaches the next, at a right angle
_SPREAD = 0.07  # of an axis: how far the runs that share a value lie apart
_GOLDEN = 0.618034  # its multiples, modulo 1, are never close to each other


def draw_parallel(
    axes: Sequence[Axis], models: "pd.Series[str]", places: Places, title: str, note: str
) -> Figure:
    """Parallel coordinates. models: the architecture of each run, which gives its colour."""
    names = [name for name in places if name in set(models)]
    with sns.axes_style("white"), sns.plotting_context("notebook"):
        figure = Figure((max(7.0, 1.55 * len(axes)), 4.6))
        plane = figure.subplots()
    number = np.array([names.index(model) for model in models])
    aside = _SPREAD * ((number + np.arange(len(number)) * _GOLDEN % 1) / len(names) - 0.5)
    heights = np.array([axis.places + (aside if axis.shared else 0) for axis in axes])
    opacity = float(np.clip(60 / len(models), 0.16, 0.75))
    for place, name in enumerate(names):
        lines = LineCollection(
            [_bent(line) for line in heights.T[number == place]],
            colors=[colour(places[name])],
            alpha=opacity,
            linewidths=1.0,
        )
        plane.add_collection(lines)
    for place, axis in enumerate(axes):
        _upright(plane, place, axis)
    plane.set(xlim=(-0.15, len(axes) - 0.35), ylim=(-0.09, 1.16))
    plane.set_axis_off()
    handles = [Line2D([], [], color=colour(places[name]), label=name) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    head(figure, title, f"Runs that share a value lie side by side. {note}")
    return figure


def draw_scatter(rows: pd.DataFrame, places: Places, across: str, down: str, note: str) -> Figure:
    """Runs by two accuracies, `across` and `down` (columns); crosses are pruned ones."""
    pruned = is_pruned(rows)
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((7.5, 5.4))
        plane = figure.subplots()
    for model, place in places.items():
        mine = rows[rows[MODEL] == model]
        if mine.empty:
            continue
        for is_cut in (False, True):
            part = mine[pruned[mine.index] == is_cut]
            plane.scatter(
                part[across],
                part[down],
                s=26,
                alpha=0.7,
                color=colour(place),
                marker="x" if is_cut else marker(place),
                linewidths=1.4 if is_cut else 0,
                label=None if is_cut else model,
            )
    low, high = rows[[across, down]].min().max(), rows[[across, down]].max().min()
    plane.plot([low, high], [low, high], color="0.6", lw=1, ls=":", zorder=0, label="equal")
    for axis in (plane.xaxis, plane.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1))
    plane.set(xlabel=words(across), ylabel=words(down))
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    sns.despine(figure)
    cut = int(pruned.sum())
    crosses = f"Crosses: {cut} runs that were pruned before their end. " if cut else ""
    head(figure, f"{len(rows):,} runs by {words(across)} and {words(down)}", crosses + note)
    return figure


def _bent(heights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points (x, y) of a run's line from axis to axis, with a gap beside one it does not tell."""
    steps = [
        np.column_stack([place + _BEND, start + (end - start) * _EASED])
        for place, (start, end) in enumerate(pairwise(heights))
    ]
    return np.concatenate(steps)


def _upright(plane: Axes, place: int, axis: Axis) -> None:
    """An axis with its name above it and its values beside it."""
    plane.plot([place, place], [-0.04, 1.04], color="0.35", lw=1)
    plane.text(place, 1.12, axis.words, ha="center", size=10.5, weight="bold", wrap=True)
    for at, label in axis.ticks:
        plane.text(
            *(place + 0.05, at, label),
            va="center",
            size=9.5,
            bbox={"facecolor": "white", "alpha": 0.8, "pad": 1.5, "edgecolor": "none"},
        )
