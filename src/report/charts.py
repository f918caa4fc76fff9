"""Drawing: numbers in, figures out; figures as PNG and SVG files.

pyplot does not know them: a notebook shows each once, and none has to be closed.
"""

import math
import textwrap
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from src.report.numbers import Bar, TopK

_WIDTH = 9.0
_ACCURACY, _PER_CLASS = "test accuracy", "mean per-class accuracy"


def top_k(numbers: TopK, note: str) -> Figure:
    """The k best runs of an architecture."""
    title = f"{numbers.model}: the {len(numbers.bars)} best of {numbers.runs} runs"
    subtitle = f"ranked by {words(numbers.rank_column)}"
    if numbers.shared and len(numbers.bars) > 1:
        subtitle += f"; all of them: {numbers.shared}"
    return _bars(numbers.bars, title, subtitle, note)


def overall(bars: list[Bar], rank_column: str, note: str) -> Figure:
    """The best run of each architecture."""
    subtitle = f"each chosen by {words(rank_column)}"
    return _bars(bars, "The best run of each architecture", subtitle, note)


def words(column: str) -> str:
    """A column's name as a person reads it."""
    known = {
        "best_val_accuracy": "best validation accuracy",
        "val_accuracy": "validation accuracy of the last epoch",
        "test_accuracy_best_val_acc": "test accuracy",
    }
    return known.get(column, column.replace("_", " "))


def axis_start(lows: list[float]) -> float:
    """Where an axis of accuracies begins: a multiple of 5 % that leaves the bars some length.

    Accuracies within a few per cent of each other would look equal on a full axis.
    """
    lowest = min(lows)
    return 0.0 if lowest < 0.3 else max(0.0, math.floor(round(lowest * 20 - 1, 6)) / 20)


def _bars(bars: list[Bar], title: str, subtitle: str, note: str) -> Figure:
    """Horizontal bars, two a run, with values and 95 % intervals."""
    places = [f"{place}. {wrapped(bar.label)}" for place, bar in enumerate(bars, 1)]
    data = pd.DataFrame(
        {
            "run": places * 2,
            "measure": [_ACCURACY] * len(bars) + [_PER_CLASS] * len(bars),
            "value": [bar.accuracy for bar in bars] + [bar.per_class_accuracy for bar in bars],
        }
    )
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((_WIDTH, 2.4 + 0.75 * len(bars)), layout="constrained")
        axes = figure.subplots()
        sns.barplot(data, y="run", x="value", hue="measure", palette="deep", ax=axes, width=0.76)
    start = axis_start([bar.low for bar in bars])
    end = min(1.0, max(bar.high for bar in bars) + 0.22 * (1 - start))
    axes.set_xlim(start, end)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set(ylabel="", xlabel=f"accuracy (axis begins at {start:.0%})" if start else "accuracy")
    for place, bar in enumerate(bars):
        if bar.pruned_after is not None:
            for drawn in axes.containers[:2]:
                drawn[place].set(alpha=0.5, hatch="//")
        reach = [[bar.accuracy - bar.low], [bar.high - bar.accuracy]]
        axes.errorbar(bar.accuracy, place - 0.19, xerr=reach, color="0.15", capsize=3, lw=1.3)
        margin = 0.012 * (end - start)
        for offset, value, tip in (
            (-0.19, bar.accuracy, bar.high),
            (0.19, bar.per_class_accuracy, bar.per_class_accuracy),
        ):
            axes.text(tip + margin, place + offset, f"{value:.2%}", va="center", size=10)
    handles, labels = axes.get_legend_handles_labels()
    if legend := axes.get_legend():
        legend.remove()
    figure.legend(handles, labels, loc="outside upper right", frameon=False)
    sns.despine(figure, left=True)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=14)
    axes.set_title(wrapped(subtitle, 100), loc="left", size=10, color="0.3")
    figure.supxlabel(wrapped(note, 125), size=8, color="0.35", x=0.01, ha="left")
    return figure


def wrapped(text: str, width: int = 30) -> str:
    """`text` in lines of at most `width` characters, words kept whole."""
    return "\n".join(
        textwrap.fill(line, width, break_on_hyphens=False, break_long_words=False)
        for line in text.split("\n")
    )


def head(figure: Figure, title: str, subtitle: str, **spacing: float) -> None:
    """Write a title and, below it, a subtitle at the top left, in room added to the figure.

    spacing: of the constrained layout, as matplotlib's ConstrainedLayoutEngine takes it.
    """
    lines = wrapped(subtitle, 110)
    room = 0.65 + 0.17 * lines.count("\n")  # inches
    height = figure.get_figheight() + room
    figure.set_figheight(height)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - room / height), **spacing)
    figure.text(0.01, 1 - 0.08 / height, title, va="top", ha="left", weight="bold", size=14)
    figure.text(0.01, 1 - 0.38 / height, lines, va="top", ha="left", size=10, color="0.3")


def save(figure: Figure, path: Path) -> list[Path]:
    """Write the figure as PNG and SVG, the same bytes for the same numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}):
        for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
            written.append(path.with_name(path.name + suffix))
            figure.savefig(written[-1], dpi=150, metadata=metadata)
    plt.close(figure)  # nothing to do for those drawn here
    return written
