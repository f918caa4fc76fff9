"""Images as points in a plane, by predicted class, wrong predictions ringed."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from src.data.dataset import CLASSES
from src.report.charts import head
from src.report.embedding import Embedding

_FEWEST_FOR_A_NAME = 5  # points, for the name of a class to be written among them


def draw(embedding: Embedding, title: str, subtitle: str) -> Figure:
    """The points, coloured by predicted class.

    The name of a class stands at the median of its points, for whoever cannot tell ten colours.
    """
    x, y = embedding.points.T
    palette = sns.color_palette("colorblind", len(CLASSES))
    tall = np.clip(np.ptp(y) / np.ptp(x), 0.5, 1.2)
    figure = Figure((9.6, 0.4 + 7.7 * tall), layout="constrained")
    axes = figure.subplots()
    for wrong in (False, True):  # the rings above
        chosen = embedding.wrong == wrong
        axes.scatter(
            x[chosen],
            y[chosen],
            s=26,
            c=[palette[label] for label in embedding.predictions[chosen]],
            edgecolors="black" if wrong else "white",
            linewidths=1.1 if wrong else 0.3,
            zorder=2 + wrong,
        )
    for label, name in enumerate(CLASSES):
        members = embedding.predictions == label
        if members.sum() >= _FEWEST_FOR_A_NAME:
            middle, height = np.median(embedding.points[members], axis=0)
            axes.text(
                middle, height, name, size=11, weight="bold",
                ha="center", va="center", zorder=5, color="0.1",
                path_effects=[withStroke(linewidth=3, foreground="white", alpha=0.85)],
            )  # fmt: skip
    axes.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.03)
    sns.despine(figure)
    figure.legend(
        handles=_key(palette), title="predicted class", loc="outside right center", frameon=False
    )
    head(figure, title, subtitle)
    return figure


def _key(palette: Sequence[tuple[float, float, float]]) -> list[Line2D]:
    classes = [
        Line2D([], [], marker="o", ls="", ms=7, color=colour, label=name)
        for colour, name in zip(palette, CLASSES, strict=True)
    ]
    ring = Line2D(
        [], [], marker="o", ls="", ms=7, mfc="white", mec="black", mew=1.3, label="wrong: ringed"
    )
    return [*classes, ring]
