"""Learning curves: loss and accuracy of runs side by side."""

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from src.report.charts import head, wrapped
from src.report.curves import MEASURES, Curve, Curves
from src.report.drawing.marks import colour, marker

_GREY = "0.35"


def draw(curves: Curves) -> Figure:
    """The runs over their epochs."""
    longest = max(len(curve.label) for curve in curves.runs)
    columns = 1 if longest > 60 else 2
    labels = [wrapped(curve.label, 120 // columns) for curve in curves.runs]
    rows = sum(1 + label.count("\n") for label in labels) / columns
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((11, 5.3 + 0.26 * rows), layout="constrained")
        panels = figure.subplots(1, 2)
    for axes, measure in zip(panels, MEASURES, strict=True):
        for place, curve in enumerate(curves.runs):
            _plot(axes, curve, measure, place)
        axes.set(xlabel="epoch", title=_TITLES[measure])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[1].yaxis.set_major_formatter(PercentFormatter(xmax=1))
    sns.despine(figure)
    runs = [
        Line2D([], [], color=colour(place), marker=marker(place), label=label)
        for place, label in enumerate(labels)
    ]
    if len(runs) > 1:
        figure.legend(
            handles=runs, loc="outside lower center", ncols=columns, frameon=False, fontsize=10
        )
    panels[0].legend(handles=_key(), loc="best", fontsize=9)
    count = f"{len(runs)} runs" if len(runs) > 1 else "1 run"
    head(figure, f"Learning curves of {count} on {curves.data}", curves.shared)
    return figure


_TITLES = {"loss": "cross-entropy (nats)", "accuracy": "accuracy"}


def _plot(axes: Axes, curve: Curve, measure: str, place: int) -> None:
    hue, mark = colour(place), marker(place)
    training, validation = curve.points["train", measure], curve.points["val", measure]
    small = 4 if len(validation) <= 40 else 2
    if training:
        axes.plot(*zip(*training, strict=True), color=hue, ls="--", lw=1.2, marker=".", ms=small)
    if validation:
        axes.plot(*zip(*validation, strict=True), color=hue, lw=2, marker=mark, ms=small)
    for epoch, value in validation:
        if epoch == curve.best_epoch:
            axes.plot(epoch, value, marker="*", ms=14, color=hue, mec="black", zorder=5)


def _key() -> list[Line2D]:
    training = "training (mean while the epoch lasts)"
    best = "epoch of best validation accuracy"
    return [
        Line2D([], [], color=_GREY, ls="--", lw=1.2, marker=".", ms=4, label=training),
        Line2D([], [], color=_GREY, lw=2, marker="o", ms=4, label="validation"),
        Line2D([], [], color="white", mec="black", marker="*", ms=12, ls="", label=best),
    ]
