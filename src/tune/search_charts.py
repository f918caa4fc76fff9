"""Charts of a search (history, importance, parallel coordinates) and of a range test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter, ScalarFormatter

from src.config import RunConfig
from src.report.charts.figure import save, wrapped
from src.tune.lr_range_test import RangeTestCurve
from src.tune.search_data import SearchData, Trial, axis, place
from src.tune.search_space import Range

_WIDTH = 9.0
_SPREAD = 5.0  # losses that differ by more than this factor are drawn on a log axis
_BEST, _PRUNED, _FAILED = "#c44e52", "0.6", "#dd8452"


def draw(numbers: SearchData, stem: str, folder: Path) -> list[Path]:
    """Save <stem>_history, <stem>_parallel and, with enough trials, <stem>_importance."""
    written = save(_history(numbers), folder / f"{stem}_history")
    written += save(_parallel(numbers), folder / f"{stem}_parallel")
    if numbers.importances:
        written += save(_importance(numbers), folder / f"{stem}_importance")
    return written


def draw_curve(curve: RangeTestCurve, config: RunConfig, path: Path) -> list[Path]:
    """Save the curve of a range test as <path>.png and .svg, the suggestion marked."""
    figure, axes = _canvas(4.8)
    axes.plot(curve.rates, curve.losses, lw=2)
    rate, loss = curve.suggestion, curve.losses[curve.suggested]
    axes.axvline(rate, color=_BEST, lw=1, ls="--")
    axes.scatter([rate], [loss], color=_BEST, s=60, zorder=3)
    axes.annotate(f"{rate:g}", (rate, loss), (10, 6), textcoords="offset points", color=_BEST)
    before = curve.losses[: curve.suggested]
    fall = max(before) - min(curve.losses)  # as much above as below: it may end far off
    axes.set_ylim(top=min(1.02 * max(curve.losses), max(before) + fall))
    axes.set(xscale="log", xlabel="learning rate", ylabel="smoothed training loss")
    steps = f"{len(curve.rates)} steps of {config.batch_size} images"
    subtitle = f"{config.model_name} on {config.data_name}, {config.optimizer}; {steps}; "
    subtitle += f"steepest descent at {rate:g}"
    return save(_titled(figure, axes, "Learning-rate range test", subtitle), path)


def _history(numbers: SearchData) -> Figure:
    """Validation loss of each trial, and the best so far."""
    figure, axes = _canvas(4.8)
    for pruned, marker, color, label in (
        (False, "o", sns.color_palette("deep")[0], "complete"),
        (True, "x", _PRUNED, "pruned: its lowest so far"),
    ):
        drawn = [trial for trial in numbers.trials if trial.pruned == pruned]
        if drawn:
            x, y = [t.number for t in drawn], [t.loss for t in drawn]
            axes.scatter(x, y, marker=marker, color=color, s=40, label=label, zorder=3)
    x = [trial.number for trial in numbers.trials]
    axes.step(
        x,
        numbers.best_so_far,
        where="post",
        color=_BEST,
        label="best so far, complete trials",
        zorder=2,
    )
    for number in numbers.failed:
        axes.axvline(number, color=_FAILED, lw=1.2, ls=":", label="failed")
    _loss_scale(axes, [trial.loss for trial in numbers.trials])
    axes.set(xlabel="trial", ylabel="lowest validation loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    unique = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(unique.values(), unique, loc="outside lower center", ncols=4, frameon=False)
    best = numbers.best
    subtitle = (
        f"{numbers.what}. Points: the lowest validation loss of each trial; lower is better. Line: "
        f"the lowest of the complete trials so far, without pruned ones. {_counted(numbers)}; the "
        f"best is trial {best.number} with {best.loss:.4f}."
    )
    return _titled(figure, axes, f"Search history: {numbers.study}", subtitle)


def _importance(numbers: SearchData) -> Figure:
    """Bars of the settings' importances."""
    assert numbers.importances
    names, shares = list(numbers.importances), list(numbers.importances.values())
    figure, axes = _canvas(1.9 + 0.42 * len(names))
    sns.barplot(x=shares, y=names, ax=axes, color=sns.color_palette("deep")[0], width=0.7)
    for row, share in enumerate(shares):
        axes.text(share + 0.01, row, f"{share:.0%}", va="center", size=10)
    axes.set_xlim(0, min(1.1, max(shares) * 1.15))
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set(xlabel="share of the variance of the lowest validation loss", ylabel="")
    complete = sum(not trial.pruned for trial in numbers.trials)
    subtitle = (
        f"{numbers.what}. How much each setting changes the lowest validation loss, by functional "
        f"ANOVA over {complete} complete trials; pruned and failed ones are left out."
    )
    return _titled(figure, axes, f"Hyperparameter importance: {numbers.study}", subtitle)


def _parallel(numbers: SearchData) -> Figure:
    """A line for each trial across the axes of all settings and of the loss."""
    figure, axes = _canvas(5.2)
    losses = sorted(trial.loss for trial in numbers.trials)
    scale = Range(losses[0], losses[-1], log=_is_wide(losses))
    for trial in sorted(numbers.trials, key=lambda trial: -trial.loss):
        line = Line2D(range(len(trial.places) + 1), [*trial.places, place(scale, trial.loss)])
        axes.add_line(line)
        line.set(**_stroke(trial, numbers, losses))
    all_axes = (*numbers.axes, axis("lowest validation loss", scale))
    for x, drawn in enumerate(all_axes):
        axes.axvline(x, color="0.25", lw=1)
        for y, label in drawn.ticks.items():
            axes.plot([x - 0.02, x + 0.02], [y, y], color="0.25", lw=1)
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
            axes.text(x + 0.05, y, label, va="center", size=8, bbox=box, zorder=6)
    names = [drawn.name.replace("_", " ") + "\n(log)" * drawn.log for drawn in all_axes]
    axes.set_xticks(range(len(names)), [name.replace(" ", "\n", 1) for name in names])
    axes.set(yticks=[], xlim=(-0.1, len(names) - 0.6), ylim=(-0.05, 1.05))
    axes.grid(visible=False)
    styles = {"the best complete trial": (_BEST, "-")}
    if any(trial.pruned for trial in numbers.trials):
        styles["pruned: its lowest so far"] = (_PRUNED, ":")
    handles = [Line2D([], [], color=c, ls=style, label=n) for n, (c, style) in styles.items()]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False)
    failed = "; failed ones have no line" if numbers.failed else ""
    subtitle = (
        f"{numbers.what}. A line for each trial; the darker, the lower and better its lowest "
        f"validation loss. {_counted(numbers)}{failed}."
    )
    return _titled(figure, axes, f"Settings and loss of each trial: {numbers.study}", subtitle)


def _stroke(trial: Trial, numbers: SearchData, losses: list[float]) -> dict[str, Any]:
    """Line style of a trial: coloured by the rank of its loss."""
    if trial is numbers.best:
        return {"color": _BEST, "linewidth": 2.5, "zorder": 5}
    if trial.pruned:
        return {"color": _PRUNED, "linewidth": 0.9, "linestyle": ":", "zorder": 1}
    rank = losses.index(trial.loss) / max(1, len(losses) - 1)
    return {"color": sns.color_palette("mako", as_cmap=True)(0.15 + 0.75 * rank), "linewidth": 1.3}


def _canvas(height: float) -> tuple[Figure, Axes]:
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((_WIDTH, height), layout="constrained")
        return figure, figure.subplots()


def _titled(figure: Figure, axes: Axes, title: str, subtitle: str) -> Figure:
    sns.despine(figure, left=True)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=14)
    axes.set_title(wrapped(subtitle, 110), loc="left", size=10, color="0.3")
    return figure


def _loss_scale(axes: Axes, losses: Sequence[float]) -> None:
    """Use a log axis if a few bad trials would compress all others."""
    if _is_wide(losses):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        between = np.geomspace(min(losses), max(losses), 6)
        axes.set_yticks(np.unique([float(f"{loss:.1g}") for loss in between]))


def _is_wide(losses: Sequence[float]) -> bool:
    return max(losses) > _SPREAD * min(losses)


def _counted(numbers: SearchData) -> str:
    pruned = sum(trial.pruned for trial in numbers.trials)
    counts = {
        "complete": len(numbers.trials) - pruned,
        "pruned": pruned,
        "failed": len(numbers.failed),
    }
    return "Trials: " + ", ".join(f"{count} {word}" for word, count in counts.items() if count)
