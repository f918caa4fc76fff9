"""Images with what they are and what they were taken for."""

import math

from matplotlib.figure import Figure

from src.report.charts import head
from src.report.gallery import Tile

_COLUMNS = 4
_RIGHT, _WRONG = "#1a7f37", "#c0281c"  # green and red; the marks tell them apart as well


def draw(tiles: list[Tile], title: str, subtitle: str) -> Figure:
    """The images in rows of four."""
    rows = math.ceil(len(tiles) / _COLUMNS)
    figure = Figure((11.6, 0.9 + 2.55 * rows), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, tile in zip(grid.flat, tiles, strict=False):
        axes.imshow(tile.image, interpolation="nearest")
        axes.set_title(tile.title, size=9.5, color=_RIGHT if tile.right else _WRONG)
        axes.text(
            0.5, -0.03, f"confidence {tile.confidence:.1%}", transform=axes.transAxes,
            ha="center", va="top", size=9, color="0.3",
        )  # fmt: skip
    head(figure, title, subtitle, hspace=0.06, h_pad=0.08)
    return figure
