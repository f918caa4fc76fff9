"""The confusion matrix of a model."""

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from src.data.dataset import CLASSES
from src.report.charts import head
from src.report.predictions import Integers


def draw(matrix: Integers, title: str, subtitle: str) -> Figure:
    """A matrix (10, 10) of images, rows true and columns predicted.

    Colours are shares of the row, whose images differ in number where classes do.
    """
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    with sns.plotting_context("notebook"):
        figure = Figure((9, 7.5), layout="constrained")
        axes = figure.subplots()
        sns.heatmap(
            shares,
            annot=matrix,
            fmt="d",
            cmap="Blues",
            vmin=0,
            vmax=1,
            square=True,
            linewidths=0.5,
            xticklabels=list(CLASSES),
            yticklabels=list(CLASSES),
            annot_kws={"size": 11},
            cbar_kws={"label": "share of the true class", "shrink": 0.75},
            ax=axes,
        )
    figure.axes[-1].yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.tick_params(axis="x", rotation=45)
    axes.tick_params(axis="y", rotation=0)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    head(figure, title, subtitle)
    return figure
