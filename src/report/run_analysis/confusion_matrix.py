"""The confusion matrix of a run, and its results class by class."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from src.report.run_analysis.predictions import Integers, Predictions
from src.report.run_analysis.run_selection import SelectedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_MANY_CLASSES = 20  # more have no room for numbers
_INCHES_OF_A_CLASS = 0.125
_SMALL = 8  # points of the names of many classes


@dataclass(frozen=True)
class Confusion:
    """Images of a class that were predicted as another class."""

    name: str
    """The predicted class."""
    images: int
    share: float
    """Of the images of the true class, from 0 to 1."""


@dataclass(frozen=True)
class ClassResult:
    """A row of a confusion matrix."""

    name: str
    """The true class."""
    images: int
    correct: int
    confusions: tuple[Confusion, ...]
    """Most frequent first, without classes that were never predicted."""

    @property
    def accuracy(self) -> float | None:
        """Share of correct predictions (the recall of the class). None without images."""
        return self.correct / self.images if self.images else None


def confusion_matrix(predictions: Predictions) -> Integers:
    """(K, K): number of images by true class (row) and predicted class (column)."""
    # as sklearn.metrics.confusion_matrix, which is a second to import and 3 ms for 10,000 images
    size = predictions.probabilities.shape[1]
    places = predictions.labels * size + predictions.predictions
    counts = np.bincount(places, minlength=size * size)
    matrix: Integers = counts.reshape(size, size).astype(np.int64)
    return matrix


def class_results(matrix: Integers, classes: Sequence[str]) -> list[ClassResult]:
    """The rows of a confusion matrix (K, K), in the order of the K classes."""
    return [_class_result(label, row.tolist(), classes) for label, row in enumerate(matrix)]


def worst_first(results: Sequence[ClassResult]) -> list[ClassResult]:
    """Sorted by accuracy, the lowest first; classes without images last."""
    return sorted(results, key=lambda result: 2.0 if result.accuracy is None else result.accuracy)


def _class_result(label: int, counts: list[int], classes: Sequence[str]) -> ClassResult:
    images = sum(counts)
    others = [(count, other) for other, count in enumerate(counts) if count and other != label]
    others.sort(key=lambda pair: (-pair[0], pair[1]))
    confusions = tuple(Confusion(classes[other], count, count / images) for count, other in others)
    return ClassResult(classes[label], images, counts[label], confusions)


def as_json(result: ClassResult, limit: int) -> dict[str, Any]:
    """A class for JSON, with its `most` most frequent confusions."""
    return {
        "class": result.name,
        "images": result.images,
        "correct": result.correct,
        "accuracy": result.accuracy,
        "most_often_taken_for": [
            {"class": other.name, "images": other.images, "share": other.share}
            for other in result.confusions[:limit]
        ],
    }


def as_text(results: Sequence[ClassResult], limit: int) -> str:
    """A table of the classes with their `most` most frequent confusions."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("class", min_width=10, no_wrap=True)
    for heading in ("images", "correct", "accuracy"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("most often taken for", no_wrap=True)
    for result in results:
        accuracy = "-" if result.accuracy is None else f"{result.accuracy:.2%}"
        others = ", ".join(
            f"{other.name} {other.images} ({other.share:.1%})"
            for other in result.confusions[:limit]
        )
        table.add_row(
            *(result.name, str(result.images), str(result.correct), accuracy, others or "-")
        )
    # wider than any row, whatever the terminal: a pipe or a narrow screen gets the whole text
    console = Console(file=io.StringIO(), width=1000, color_system=None, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def figure(run: SelectedRun, predictions: Predictions) -> "Figure":
    """The confusion matrix of a run."""
    matrix = confusion_matrix(predictions)
    title = f"{run.title}: confusion matrix"
    return draw(matrix, run.data.classes, title, predictions.summary(run.data_name))


def draw(matrix: Integers, classes: Sequence[str], title: str, subtitle: str) -> "Figure":
    """A matrix (K, K) of numbers of images, rows true and columns predicted.

    Colours are shares of the row, since classes may have different numbers of images. With more
    than 20 classes there are no numbers, and the picture grows until each name can be read.
    """
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    from src.report.charts.figure import add_heading

    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    with sns.plotting_context("notebook"):
        many = len(classes) > _MANY_CLASSES
        side = max(9.0, _INCHES_OF_A_CLASS * len(classes) + 3) if many else 9.0
        figure = Figure((side, side - 1.5), layout="constrained")
        axes = figure.subplots()
        sns.heatmap(
            shares,
            annot=not many and matrix,
            fmt="d",
            cmap="Blues",
            vmin=0,
            vmax=1,
            square=True,
            linewidths=0.1 if many else 0.5,
            linecolor="0.93" if many else "white",
            xticklabels=list(classes),
            yticklabels=list(classes),
            annot_kws={"size": 11},
            cbar_kws={"label": "share of the true class", "shrink": 0.75},
            ax=axes,
        )
    figure.axes[-1].yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.tick_params(axis="x", rotation=90 if many else 45)
    axes.tick_params(axis="y", rotation=0)
    for label in axes.get_xticklabels():
        label.set(ha="right", va="center" if many else "baseline", rotation_mode="anchor")
    if many:
        axes.tick_params(labelsize=_SMALL)
    add_heading(figure, title, subtitle)
    return figure
