"""Learning curves: loss and accuracy of runs side by side."""

from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from src.report.charts import head, save, wrapped
from src.report.curves import MEASURES, Curve, Curves

_MARKERS = "osD^vPX"  # not as many as colours: no two of 70 runs look alike
_GREY = "0.35"


def draw(curves: Curves, folder: Path) -> list[Path]:
    """Draw the runs as <folder>/curves.png and .svg."""
    longest = max(len(curve.label) for curve in curves.runs)
    columns = 1 if longest > 60 else 2
    labels = [wrapped(curve.label, 120 // columns) for curve in curves.runs]
    rows = sum(1 + label.count("\n") for label in labels) / columns
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure, panels = plt.subplots(1, 2, figsize=(11, 5.3 + 0.26 * rows), layout="constrained")
    for axes, measure in zip(panels, MEASURES, strict=True):
        for place, curve in enumerate(curves.runs):
            _plot(axes, curve, measure, place)
        axes.set(xlabel="epoch", title=_TITLES[measure])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[1].yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    sns.despine(figure)
    runs = [
        Line2D([], [], color=_colour(place), marker=_marker(place), label=label)
        for place, label in enumerate(labels)
    ]
    if len(runs) > 1:
        figure.legend(
            handles=runs, loc="outside lower center", ncols=columns, frameon=False, fontsize=10
        )
    panels[0].legend(handles=_key(), loc="best", fontsize=9)
    count = f"{len(runs)} runs" if len(runs) > 1 else "1 run"
    head(figure, f"Learning curves of {count} on {curves.data}", curves.shared)
    return save(figure, folder / "curves")


_TITLES = {"loss": "cross-entropy (nats)", "accuracy": "accuracy"}


def _plot(axes: Axes, curve: Curve, measure: str, place: int) -> None:
    colour, marker = _colour(place), _marker(place)
    training, validation = curve.points["train", measure], curve.points["val", measure]
    small = 4 if len(validation) <= 40 else 2
    if training:
        axes.plot(*zip(*training, strict=True), color=colour, ls="--", lw=1.2, marker=".", ms=small)
    if validation:
        axes.plot(*zip(*validation, strict=True), color=colour, lw=2, marker=marker, ms=small)
    for epoch, value in validation:
        if epoch == curve.best_epoch:
            axes.plot(epoch, value, marker="*", ms=14, color=colour, mec="black", zorder=5)


def _key() -> list[Line2D]:
    training = "training (mean while the epoch lasts)"
    best = "epoch of best validation accuracy"
    return [
        Line2D([], [], color=_GREY, ls="--", lw=1.2, marker=".", ms=4, label=training),
        Line2D([], [], color=_GREY, lw=2, marker="o", ms=4, label="validation"),
        Line2D([], [], color="white", mec="black", marker="*", ms=12, ls="", label=best),
    ]


def _colour(place: int) -> tuple[float, float, float]:
    palette = sns.color_palette("colorblind")
    red, green, blue = palette[place % len(palette)]
    return red, green, blue


def _marker(place: int) -> str:
    return _MARKERS[place % len(_MARKERS)]
