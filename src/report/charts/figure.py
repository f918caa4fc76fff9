"""What all charts share: headings, colours and markers, and files as PNG and SVG.

Figures are made without pyplot: a notebook shows each of them once, and none has to be closed.
"""

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

import matplotlib
import seaborn as sns
from matplotlib.figure import Figure

ModelIndices = Mapping[str, int]
"""The index of each architecture: the same colour and marker in all charts of a report."""

_MARKERS = "osD^vPX"
"""7 markers x 10 colours of a palette for colour-blind readers: 70 distinct lines."""


def line_color(index: int) -> tuple[float, float, float]:
    """RGB colour of the line number `index`, from 0."""
    palette = sns.color_palette("colorblind")
    red, green, blue = palette[index % len(palette)]
    return red, green, blue


def line_marker(index: int) -> str:
    """Matplotlib marker of the line number `index`, from 0."""
    return _MARKERS[index % len(_MARKERS)]


def wrapped(text: str, width: int = 30) -> str:
    """`text` in lines of at most `width` characters, broken between words."""
    return "\n".join(
        textwrap.fill(line, width, break_on_hyphens=False, break_long_words=False)
        for line in text.split("\n")
    )


def add_heading(figure: Figure, title: str, subtitle: str, **spacing: float) -> None:
    """Write a title and a subtitle at the top left, and make the figure taller by their height.

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
    """Write <path>.png and <path>.svg; the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # it is laid out: savefig would do so again for each file
    written = []
    # ids in an SVG are random but for the salt, and its date is that of today
    with matplotlib.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}):
        for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
            written.append(path.with_name(path.name + suffix))
            figure.savefig(written[-1], dpi=150, metadata=metadata)
    return written


def save_all(figures: Iterable[tuple[str, Figure | None]], folder: Path) -> list[Path]:
    """Write each figure as <folder>/<name>.png and .svg; None, an empty chart, is skipped."""
    return [
        path
        for name, figure in figures
        if figure is not None
        for path in save(figure, folder / name)
    ]
