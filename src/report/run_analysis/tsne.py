"""t-SNE of a run's penultimate features: images as points in a plane."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from src.common.errors import UserError
from src.report.run_analysis.predictions import Float32Array, Integers, Predictions
from src.report.run_analysis.run_selection import SelectedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

NO_FEATURES = "t-SNE: the model has no penultimate features"
PERPLEXITY = 30
_COMPONENTS = 50  # to which PCA reduces wide features first, as van der Maaten and Hinton do
_MIN_IMAGES = 5
_MAX_COLORS = 10  # the colours of the palette
_MIN_FOR_A_NAME = 5  # points of a class, for its name to be written among them


@dataclass(frozen=True)
class Embedding:
    """N images in a plane: points (N, 2), labels and predictions (N,)."""

    points: Float32Array
    labels: Integers
    predictions: Integers
    perplexity: float

    @property
    def is_wrong(self) -> npt.NDArray[np.bool_]:
        """(N,): whether the prediction is not the label."""
        return self.labels != self.predictions


def balanced_sample(labels: Integers, count: int, seed: int) -> Integers:
    """Ascending indices of `count` random images, equally many of each class if there are enough.

    All images if there are fewer than `count`. The same for the same arguments.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    number = np.empty(len(labels), np.int64)  # of each image among those of its class
    for label in np.unique(labels):
        members = order[labels[order] == label]
        number[members] = np.arange(len(members))
    by_number = order[np.argsort(number[order], kind="stable")]
    return np.sort(by_number[:count])


def embed(predictions: Predictions, seed: int) -> Embedding:
    """t-SNE (van der Maaten and Hinton 2008) of the features.

    Perplexity is 30, or a third of the other images if there are fewer than 91. Raises UserError
    for fewer than five images, and for features that are missing, all equal or not finite.
    """
    from sklearn.decomposition import PCA  # seconds to import
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    features, count = predictions.features, len(predictions.labels)
    if count < _MIN_IMAGES:
        raise UserError(f"t-SNE of {count} images: expected at least {_MIN_IMAGES}")
    if not features.shape[1]:
        raise UserError(NO_FEATURES)
    if not np.isfinite(features).all() or not features.std(axis=0).any():
        raise UserError("t-SNE: the features of the images are all the same, or not finite")
    if features.shape[1] > _COMPONENTS < count:
        features = PCA(_COMPONENTS, random_state=seed).fit_transform(features)
    perplexity = min(float(PERPLEXITY), (count - 1) / 3)
    # one thread: threads wait for each other at every step, which takes longer beside a training
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning), threadpool_limits(1):
        points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)
    return Embedding(
        points.astype(np.float32), predictions.labels, predictions.predictions, perplexity
    )


def figure(run: SelectedRun, embedding: Embedding, part: str, seed: int) -> "Figure":
    """The chart of a run. part: which images, in words; seed: of the embedding."""
    subtitle = (
        f"{len(embedding.labels):,} {part} images of {run.data_name}, balanced by "
        f"class; {embedding.is_wrong.mean():.1%} of them are misclassified; "
        f"perplexity {embedding.perplexity:.3g}, seed {seed}"
    )
    title = f"{run.title}: t-SNE of its penultimate features"
    return draw(embedding, run.data.classes, title, subtitle)


def draw(embedding: Embedding, classes: Sequence[str], title: str, subtitle: str) -> "Figure":
    """Points coloured by predicted class, wrong predictions ringed.

    The name of a class is written at the median of its points: colours are hard to tell apart.
    With more than ten classes, colours and names go round, and there is no legend of them.
    """
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    from src.report.charts.figure import add_heading

    x, y = embedding.points.T
    few = len(classes) <= _MAX_COLORS
    palette = sns.color_palette("colorblind", len(classes))
    aspect = np.clip(np.ptp(y) / np.ptp(x), 0.5, 1.2)
    figure = Figure((9.6, 0.4 + 7.7 * aspect), layout="constrained")
    axes = figure.subplots()
    for wrong in (False, True):  # wrong ones last, on top of the others
        shown = embedding.is_wrong == wrong
        axes.scatter(
            x[shown],
            y[shown],
            s=26,
            c=[palette[label] for label in embedding.predictions[shown]],
            edgecolors="black" if wrong else "white",
            linewidths=1.1 if wrong else 0.3,
            zorder=2 + wrong,
        )
    for label, name in enumerate(classes):
        members = embedding.predictions == label
        if members.sum() >= _MIN_FOR_A_NAME:
            middle, height = np.median(embedding.points[members], axis=0)
            axes.text(
                middle, height, name, size=11 if few else 7, weight="bold",
                ha="center", va="center", zorder=5, color="0.1",
                path_effects=[withStroke(linewidth=3, foreground="white", alpha=0.85)],
            )  # fmt: skip
    axes.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.03)
    sns.despine(figure)
    figure.legend(
        handles=_legend(palette, classes if few else ()),
        title="predicted class" if few else None,
        loc="outside right center",
        frameon=False,
    )
    add_heading(figure, title, subtitle)
    return figure


def _legend(palette: Sequence[tuple[float, float, float]], names: Sequence[str]) -> "list[Line2D]":
    from matplotlib.lines import Line2D

    classes = [
        Line2D([], [], marker="o", ls="", ms=7, color=color, label=name)
        for color, name in zip(palette, names, strict=False)
    ]
    ring = Line2D(
        [], [], marker="o", ls="", ms=7, mfc="white", mec="black", mew=1.3, label="wrong: ringed"
    )
    return [*classes, ring]
