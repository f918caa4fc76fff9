"""Learning curves: loss and accuracy of runs over their epochs, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from src.common.errors import UserError
from src.common.paths import HISTORY
from src.common.result_values import finite
from src.config import RunConfig
from src.report.charts.figure import add_heading, line_color, line_marker, wrapped
from src.report.run_analysis.run_selection import SelectedRun, read_each
from src.report.settings import describe_configs

Points = list[tuple[int, float]]
"""Epochs, from 1, and the values that were measured after them."""
History = list[dict[str, Any]]
"""The rows of history.jsonl, one for each epoch."""

PARTS = ("train", "val")
MEASURES = ("loss", "accuracy")
_TITLES = {"loss": "cross-entropy (nats)", "accuracy": "accuracy"}
_GREY = "0.35"


@dataclass(frozen=True)
class LearningCurve:
    """A run over its epochs. Losses in nats, accuracies from 0 to 1."""

    label: str
    points: dict[tuple[str, str], Points]
    """By part and measure. Epochs without a validation have no points of it."""
    best_epoch: int | None
    """The first with the highest validation accuracy. None: there was no validation yet."""


@dataclass(frozen=True)
class LearningCurves:
    """Runs side by side."""

    runs: list[LearningCurve]
    shared: str
    """The settings that all of them have in common, in words."""
    data_name: str


def read_history(run: SelectedRun) -> History:
    """The epochs of a run. Raises UserError if there are none or the file is damaged."""
    try:
        rows = run.folder.history()
    except ValueError as error:
        raise UserError(str(error)) from None
    if not rows:
        raise UserError(f"{run.folder.path}: no {HISTORY} (the run is {run.folder.state()})")
    return rows


def learning_curves(runs: Sequence[tuple[SelectedRun, History]]) -> LearningCurves:
    """The curves of runs with their histories; labels name only the settings that differ."""
    shared, labels = describe_with_models([run.config for run, _ in runs])
    curves = [_curve(label, history) for label, (_, history) in zip(labels, runs, strict=True)]
    data_names = sorted({run.data_name for run, _ in runs})
    return LearningCurves(curves, shared, " and ".join(data_names))


def describe_with_models(configs: Sequence[RunConfig]) -> tuple[str, list[str]]:
    """As `settings.describe_configs`, with the architecture in what is shared, or in each label."""
    shared, labels = describe_configs(configs)
    models = {config.model_name for config in configs}
    if len(models) == 1:
        return ", ".join(filter(None, (*models, shared))), labels
    return shared, [
        config.model_name if label == config.model_name else f"{config.model_name}, {label}"
        for config, label in zip(configs, labels, strict=True)
    ]


def _curve(label: str, history: History) -> LearningCurve:
    points = {
        (part, measure): [
            (row["epoch"], row[f"{part}_{measure}"])
            for row in history
            if finite(row.get(f"{part}_{measure}")) is not None
        ]
        for part in PARTS
        for measure in MEASURES
    }
    validated = points["val", "accuracy"]
    best = max(validated, key=lambda point: (point[1], -point[0]))[0] if validated else None
    return LearningCurve(label, points, best)


def figure(runs: Sequence[SelectedRun], *, quiet: bool = False) -> Figure:
    """The curves of runs. Runs without a history are named on stderr, unless `quiet`."""
    return draw(learning_curves(list(read_each(runs, read_history, quiet=quiet))))


def draw(curves: LearningCurves) -> Figure:
    """Two panels, loss and accuracy; training dashed and validation solid."""
    longest = max(len(curve.label) for curve in curves.runs)
    columns = 1 if longest > 60 else 2
    labels = [wrapped(curve.label, 120 // columns) for curve in curves.runs]
    rows = sum(1 + label.count("\n") for label in labels) / columns
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((11, 5.3 + 0.26 * rows), layout="constrained")
        panels = figure.subplots(1, 2)
    for axes, measure in zip(panels, MEASURES, strict=True):
        for index, curve in enumerate(curves.runs):
            _plot(axes, curve, measure, index)
        axes.set(xlabel="epoch", title=_TITLES[measure])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[1].yaxis.set_major_formatter(PercentFormatter(xmax=1))
    sns.despine(figure)
    lines = [
        Line2D([], [], color=line_color(index), marker=line_marker(index), label=label)
        for index, label in enumerate(labels)
    ]
    if len(lines) > 1:
        figure.legend(
            handles=lines, loc="outside lower center", ncols=columns, frameon=False, fontsize=10
        )
    panels[0].legend(handles=_legend(), loc="best", fontsize=9)
    count = f"{len(lines)} runs" if len(lines) > 1 else "1 run"
    add_heading(figure, f"Learning curves of {count} on {curves.data_name}", curves.shared)
    return figure


def _plot(axes: Axes, curve: LearningCurve, measure: str, index: int) -> None:
    color, marker = line_color(index), line_marker(index)
    training, validation = curve.points["train", measure], curve.points["val", measure]
    size = 4 if len(validation) <= 40 else 2
    if training:
        axes.plot(*zip(*training, strict=True), color=color, ls="--", lw=1.2, marker=".", ms=size)
    if validation:
        axes.plot(*zip(*validation, strict=True), color=color, lw=2, marker=marker, ms=size)
    for epoch, value in validation:
        if epoch == curve.best_epoch:
            axes.plot(epoch, value, marker="*", ms=14, color=color, mec="black", zorder=5)


def _legend() -> list[Line2D]:
    training = "training (running mean of the epoch)"
    best = "epoch of best validation accuracy"
    return [
        Line2D([], [], color=_GREY, ls="--", lw=1.2, marker=".", ms=4, label=training),
        Line2D([], [], color=_GREY, lw=2, marker="o", ms=4, label="validation"),
        Line2D([], [], color="white", mec="black", marker="*", ms=12, ls="", label=best),
    ]
