"""The page as text: its template, style, scripts and numbers, in one file."""

import base64
import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from src.common import files
from src.report.page.content import Content

_PARTS = Path(__file__).parent / "static"
_SCRIPTS = (
    "format.js",
    "state.js",
    "data.js",
    "elements.js",
    "filters.js",
    "table.js",
    "plots.js",
    "charts.js",
    "overview.js",
    "parallel.js",
    "run.js",
    "watch.js",
    "main.js",
)


def write(path: Path, content: Content, summary: str, note: str) -> Path:
    """Write the page, atomically."""
    text = render(content, summary, note)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, text)
    return path


def render(content: Content, summary: str, note: str) -> str:
    """The page, self-contained: its policy forbids it every request and every other script."""
    ours, plotly = _script(), _plotly()
    loader = jinja2.FileSystemLoader(_PARTS)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"share": _share, "hours": _hours}
    return environment.get_template("page.html.j2").render(
        **content.core,
        summary=summary,
        note=note,
        policy=_policy(ours, plotly),
        style=(_PARTS / "page.css").read_text(),
        script=ours,
        plotly=plotly,
        data=in_script(content.core),
        runs=packed(content.runs),
    )


def in_script(value: Any) -> str:
    """JSON that nothing in a script element can end, whatever text it holds."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def packed(value: Any) -> str:
    """JSON, compressed, as base64 text: a third of its size."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _policy(*scripts: str) -> str:
    """A Content-Security-Policy: no request at all, and no scripts but these, by their digests."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in scripts)
    allowed = " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:;"
        " connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


@cache
def _script() -> str:
    """Our scripts, one after another, in a scope of their own."""
    parts = "\n".join((_PARTS / name).read_text() for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'


@cache
def _plotly() -> str:
    import plotly.offline

    text: str = plotly.offline.get_plotlyjs()
    return text


def _share(value: float | None, digits: int = 2) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.{digits}%}"


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
