"""Write the page: template, style, scripts and data in one HTML file."""

import base64
import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps

from src.common import files
from src.common.json_text import finite_values
from src.common.progress import ShowProgress, silent
from src.report.page.sweep_state import SweepState
from src.report.page.view_model import PageData, page_data
from src.report.report_data import ReportData

_STATIC = Path(__file__).parent / "static"
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


def write_page(
    report: ReportData,
    folder: Path,
    state: SweepState | None = None,
    *,
    watch: float | None = None,
    show_progress: ShowProgress = silent,
) -> Path:
    """Write <folder>/report.html, atomically: a browser that reads it sees the old or the new one.

    state, watch: as `page_data` takes them.
    """
    data = page_data(report, state, watch=watch, show_progress=show_progress)
    text = render(data, report.summary(), report.accuracy_note())
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "report.html", text)
    return folder / "report.html"


def render(data: PageData, summary: str, note: str) -> str:
    """The page as text. Its policy forbids it requests and scripts other than those in it."""
    script, plotly = _script(), _plotly()
    loader = jinja2.FileSystemLoader(_STATIC)
    # autoescape: names and messages are texts of files, and may contain markup
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"share": _share, "hours": _hours, "written": _written}
    return environment.get_template("page.html.j2").render(
        **data.core,
        summary=summary,
        note=note,
        policy=_security_policy(script, plotly),
        style=(_STATIC / "page.css").read_text(),
        script=script,
        plotly=plotly,
        data=to_script_json(data.core),
        runs=to_packed_json(data.runs),
    )


def to_script_json(value: Any) -> str:
    """JSON for a script element, without < > & and '; NaN and infinity become null.

    Text such as `</script>` in a run's name would otherwise end the element, and what follows it
    would be markup.
    """
    return htmlsafe_json_dumps(finite_values(value), separators=(",", ":"), allow_nan=False)


def to_packed_json(value: Any) -> str:
    """Such JSON as base64 text, compressed to a third. The same bytes for the same value."""
    text = json.dumps(finite_values(value), separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _security_policy(*scripts: str) -> str:
    """A Content-Security-Policy: no request at all, and no scripts but these, by their digests."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in scripts)
    allowed = " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:;"
        " connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


@cache
def _script() -> str:
    """The page's scripts, joined, in a scope of their own."""
    parts = "\n".join((_STATIC / name).read_text() for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'


@cache
def _plotly() -> str:
    import plotly.offline

    text: str = plotly.offline.get_plotlyjs()
    return text


def _share(value: float | None, digits: int = 2) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.{digits}%}"


def _written(value: float | None, kind: str) -> str:
    """A result by `ResultColumn.kind`, as `written` of format.js does, but times in seconds."""
    if value is None or kind == "share":
        return _share(value)
    if kind == "loss":
        return f"{value:.4f}"
    return f"{value:.6g}" + " s" * (kind == "seconds")


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
