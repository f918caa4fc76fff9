"""Test images with their true and predicted classes: mistakes, or a random sample."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from src import data
from src.common.errors import UserError
from src.data.dataset import ImageArray
from src.report.run_analysis.predictions import Integers, Predictions
from src.report.run_analysis.run_selection import SelectedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 4
_CORRECT, _WRONG = "#1a7f37", "#c0281c"  # green and red; marks in the titles say the same


@dataclass(frozen=True)
class PredictedImage:
    """An image (S, S, C) uint8 and its classes in words."""

    image: ImageArray
    true: str
    predicted: str
    confidence: float
    """Probability of the prediction, from 0 to 1."""

    @property
    def is_correct(self) -> bool:
        """Whether the prediction is the true class."""
        return self.true == self.predicted

    @property
    def title(self) -> str:
        """The classes, and a mark for readers who cannot tell the colours apart."""
        mark = "\N{CHECK MARK}" if self.is_correct else "\N{BALLOT X}"
        return f"{mark} true: {self.true} / predicted: {self.predicted}"


def predicted_images(
    predictions: Predictions, images: ImageArray, classes: Sequence[str], indices: Integers
) -> list[PredictedImage]:
    """The images (N, S, S, C) at `indices`, in that order. classes: their names."""
    return [
        PredictedImage(
            image=images[index],
            true=classes[predictions.labels[index]],
            predicted=classes[predictions.predictions[index]],
            confidence=float(predictions.confidence[index]),
        )
        for index in indices
    ]


def random_indices(count: int, total: int, seed: int) -> Integers:
    """At most `count` different random indices below `total`, the same for the same seed."""
    return np.random.default_rng(seed).permutation(total)[:count].astype(np.int64)


def most_confident_mistakes(predictions: Predictions, count: int) -> Integers:
    """Indices of at most `count` wrong predictions, those with the highest probability first."""
    wrong = np.flatnonzero(~predictions.is_correct)
    return wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:count]


def figure(run: SelectedRun, predictions: Predictions, count: int, path: str) -> "Figure":
    """The `count` most confident mistakes of a run. path: the data folder.

    Raises UserError if the folder holds other test images than the run's, or if there is no
    mistake.
    """
    dataset, images = data.load(path, run.config.dataset), len(predictions.labels)
    if not np.array_equal(predictions.labels, dataset.test_labels[:images]):
        raise UserError(
            f"{run.folder.path}: its labels are not those of the test images in "
            f"{path!r}; -d names other data"
        )
    indices = most_confident_mistakes(predictions, count)
    if not len(indices):
        raise UserError(f"{run.folder.path}: no mistake among {images} test images")
    return draw(
        predicted_images(predictions, dataset.test_images, dataset.spec.classes, indices),
        f"{run.title}: its {len(indices)} most confident mistakes",
        f"{(~predictions.is_correct).sum():,} of {images:,} test images of "
        f"{run.data_name} are misclassified",
    )


def draw(images: Sequence[PredictedImage], title: str, subtitle: str) -> "Figure":
    """The images in rows of four."""
    from matplotlib.figure import Figure

    from src.report.charts.figure import add_heading

    rows = math.ceil(len(images) / _COLUMNS)
    figure = Figure((11.6, 0.9 + 2.55 * rows), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image in zip(grid.flat, images, strict=False):
        shades = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.image.shape[2] == 1 else {}
        axes.imshow(image.image, interpolation="nearest", **shades)
        axes.set_title(image.title, size=9.5, color=_CORRECT if image.is_correct else _WRONG)
        axes.text(
            0.5, -0.03, f"confidence {image.confidence:.1%}", transform=axes.transAxes,
            ha="center", va="top", size=9, color="0.3",
        )  # fmt: skip
    add_heading(figure, title, subtitle, hspace=0.06, h_pad=0.08)
    return figure
