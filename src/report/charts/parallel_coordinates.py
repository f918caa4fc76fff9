"""All runs as lines across their hyperparameters: parallel coordinates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from src.report.charts.figure import ModelIndices, add_heading, line_color
from src.report.report_data import ReportData
from src.report.settings import Setting, settings_of
from src.report.table import MODEL, column_label, is_share

_DECADES = 2  # a continuous setting that spans more is on a logarithmic axis
_STEPS = np.linspace(0, 1, 24)
_EASED = _STEPS**2 * (3 - 2 * _STEPS)
"""Smoothstep: lines leave and reach axes at a right angle."""
_SPREAD = 0.07  # of an axis' height, over which runs with one value are spread
_GOLDEN_RATIO = 0.618034  # its multiples, modulo 1, are spread evenly


@dataclass(frozen=True)
class ParallelAxis:
    """A setting or result, and the position of each run on its axis."""

    title: str
    positions: npt.NDArray[np.float64]
    """(runs,): from 0, the lowest value, to 1. NaN for a run without a value."""
    ticks: tuple[tuple[float, str], ...]
    """Positions and their labels."""
    is_factor: bool
    """Whether many runs share a position, as with the levels of a setting."""


def parallel_axes(rows: pd.DataFrame, column: str) -> list[ParallelAxis]:
    """An axis for each setting in which these runs differ, and last one for the column."""
    varied = [setting for setting in settings_of(rows) if len(setting.levels) > 1]
    return [*(_setting_axis(rows, setting) for setting in varied), _result_axis(rows, column)]


def _setting_axis(rows: pd.DataFrame, setting: Setting) -> ParallelAxis:
    if setting.is_continuous:
        whole = all(isinstance(level, int | None) for level in setting.levels)
        number_format = "{:.0f}" if whole else "{:.3g}"
        return _number_axis(setting.title, rows[setting.name], number_format, may_be_log=True)
    last = len(setting.levels) - 1
    ticks = tuple((level / last, label) for level, label in enumerate(setting.labels))
    return ParallelAxis(setting.title, np.array(setting.codes(rows)) / last, ticks, is_factor=True)


def _result_axis(rows: pd.DataFrame, column: str) -> ParallelAxis:
    number_format = "{:.1%}" if is_share(column) else "{:.4g}"
    return _number_axis(column_label(column), rows[column], number_format)


def _number_axis(
    title: str,
    column: "pd.Series[float]",
    number_format: str,
    *,
    may_be_log: bool = False,
) -> ParallelAxis:
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    log = may_be_log and low > 0 and math.log10(high / low) > _DECADES
    scaled = np.log(values) if log else values
    lowest, span = (math.log(low), math.log(high / low)) if log else (low, high - low)
    positions = (scaled - lowest) / span if span else np.where(np.isfinite(values), 0.5, np.nan)
    ends: Sequence[tuple[float, float]] = [(0, low), (1, high)] if span else [(0.5, low)]
    ticks = tuple((position, number_format.format(value)) for position, value in ends)
    return ParallelAxis(title, positions, ticks, is_factor=False)


def figure(report: ReportData) -> Figure | None:
    """The chart of a report. Returns None if no setting varies, or no run has the ranked value."""
    rows = report.shown_runs.dropna(subset=[report.rank_column])
    if rows.empty:
        return None
    axes = parallel_axes(rows, report.rank_column)
    if len(axes) == 1:
        return None
    title = f"{len(rows):,} runs across their settings"
    note = report.missing_note(of_single_runs=True)
    return draw(axes, rows[MODEL], report.model_indices, title, note)


def draw(
    parallel: Sequence[ParallelAxis],
    models: "pd.Series[str]",
    indices: ModelIndices,
    title: str,
    note: str,
) -> Figure:
    """The chart. models: the architecture of each run, which gives its colour."""
    names = [name for name in indices if name in set(models)]
    with sns.axes_style("white"), sns.plotting_context("notebook"):
        figure = Figure((max(7.0, 1.55 * len(parallel)), 4.6))
        axes = figure.subplots()
    number = np.array([names.index(model) for model in models])
    offset = np.arange(len(number)) * _GOLDEN_RATIO % 1
    spread = _SPREAD * ((number + offset) / len(names) - 0.5)
    heights = np.array([axis.positions + (spread if axis.is_factor else 0) for axis in parallel])
    opacity = float(np.clip(60 / len(models), 0.16, 0.75))
    for place, name in enumerate(names):
        lines = LineCollection(
            [_curve(line) for line in heights.T[number == place]],
            colors=[line_color(indices[name])],
            alpha=opacity,
            linewidths=1.0,
        )
        axes.add_collection(lines)
    for place, axis in enumerate(parallel):
        _draw_axis(axes, place, axis)
    axes.set(xlim=(-0.15, len(parallel) - 0.35), ylim=(-0.09, 1.16))
    axes.set_axis_off()
    handles = [Line2D([], [], color=line_color(indices[name]), label=name) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    add_heading(figure, title, f"Runs that share a value lie side by side. {note}")
    return figure


def _curve(heights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points (x, y) of a run's line from axis to axis; NaN heights leave gaps."""
    steps = [
        np.column_stack([place + _STEPS, start + (end - start) * _EASED])
        for place, (start, end) in enumerate(pairwise(heights))
    ]
    return np.concatenate(steps)


def _draw_axis(axes: Axes, place: int, axis: ParallelAxis) -> None:
    """A vertical axis at x = place, its title above it and its tick labels beside it."""
    axes.plot([place, place], [-0.04, 1.04], color="0.35", lw=1)
    axes.text(place, 1.12, axis.title, ha="center", size=10.5, weight="bold", wrap=True)
    for position, label in axis.ticks:
        axes.text(
            place + 0.05,
            position,
            label,
            va="center",
            size=9.5,
            bbox={"facecolor": "white", "alpha": 0.8, "pad": 1.5, "edgecolor": "none"},
        )
