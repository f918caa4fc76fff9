"""The report as one HTML file that opens anywhere: no server, no network."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from src import files
from src.report.numbers import SETTINGS, TopK

COLUMNS = ("rank", *SETTINGS, "validation", "test", "95 % interval", "per class")
_ALL = (
    "Full_Modelname",
    "best_val_accuracy",
    "test_accuracy_best_val_acc",
    "epochs_run",
    "stop_reason",
    "run_id",
)


@dataclass(frozen=True)
class Section:
    """What the page tells of an architecture."""

    model: str
    text: str
    chart: str
    """SVG markup."""
    rows: list[list[str]]


def section(top: TopK, chart: Path, missing: str) -> Section:
    """The best runs of an architecture as a table beside their chart."""
    best = top.bars[0]
    text = f"Best of {top.runs} runs: {best.accuracy:.2%} test accuracy"
    text += f" (95 % interval {best.low:.2%} to {best.high:.2%})."
    if len(top.bars) > 1 and top.shared:
        text += f" The {len(top.bars)} best share: {top.shared}."
    if missing:
        text += f" Not shown: {missing}."
    return Section(top.model, text, inline(chart), [_row(n, b) for n, b in enumerate(top.bars, 1)])


def write(
    path: Path, table: pd.DataFrame, sections: list[Section], overall: Path, summary: str, note: str
) -> Path:
    """Write the page."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("page.html.j2")
    columns = [name for name in _ALL if name in table]
    text = template.render(
        title="Sweep on CIFAR-10",
        summary=summary,
        note=note,
        overall=inline(overall),
        sections=sections,
        columns=COLUMNS,
        all_columns=columns,
        all_rows=[[_shown(value) for value in row] for row in table[columns].to_numpy().tolist()],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, text)
    return path


def inline(chart: Path) -> str:
    """An SVG file as an element of a page, its ids made its own."""
    svg = chart.read_text()
    svg = svg[svg.index("<svg") :]
    prefix = re.sub(r"\W", "-", chart.stem)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)


def _row(place: int, bar: Any) -> list[str]:
    validation = bar.row.get("best_val_accuracy", bar.row.get("val_accuracy"))
    return [
        str(place),
        *(str(bar.row[name]) for name in SETTINGS),
        _shown(validation),
        f"{bar.accuracy:.2%}",
        f"{bar.low:.2%} to {bar.high:.2%}",
        f"{bar.per_class_accuracy:.2%}",
    ]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.2%}" if 0 <= value < 1 else f"{value:g}"
    return "" if value is None else str(value)
