"""Every chart of a report, by the name of its command."""

from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib.figure import Figure

from src.report.charts import (
    data_sets,
    importance,
    main_effects,
    overall,
    pairs,
    parallel_coordinates,
    scatter,
    shortlist,
    top_k,
)
from src.report.charts.figure import save_all
from src.report.report_data import ReportData

NamedFigures = Iterable[tuple[str, Figure | None]]
"""File names without suffix, and charts; None: there is nothing to draw."""


def _single(
    name: str, draw: Callable[[ReportData], Figure | None]
) -> Callable[[ReportData], NamedFigures]:
    return lambda report: [(name, draw(report))]


CHARTS: dict[str, Callable[[ReportData], NamedFigures]] = {
    "overall": overall.figures,
    "data-sets": _single("data_sets", data_sets.figure),
    "top-k": top_k.figures,
    "effects": _single("effects", main_effects.figure),
    "pairs": pairs.figures,
    "importance": _single("importance", importance.figure),
    "parallel": _single("parallel", parallel_coordinates.figure),
    "scatter": _single("scatter", scatter.figure),
    "confirmed": shortlist.figures,
}
"""In the order in which a report writes them."""


def write_charts(report: ReportData, folder: Path) -> list[Path]:
    """Write every chart of a report as PNG and SVG; returns the paths."""
    return [path for draw in CHARTS.values() for path in save_all(draw(report), folder)]
