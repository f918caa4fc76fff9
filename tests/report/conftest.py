"""A made-up sweep of 864 cells, its page, and a browser."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from src.data import synthetic
from src.report import table
from src.report.build import Report
from src.runs.aggregate import collect, write_csv
from tests.conftest import lacking
from tests.report import made_up

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FAILED, PRUNED, MISSING = 7, 40, 12
"""Trainings of the made-up sweep that are not done."""


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders of 864 cells; `report` writes clean_runs.csv beside them."""
    runs = tmp_path_factory.mktemp("sweep") / "runs"
    labels = synthetic.generate().test_labels
    made_up.make(runs, labels, failed=FAILED, pruned=PRUNED, missing=MISSING)
    return runs


@pytest.fixture(scope="session")
def report(sweep: Path) -> Report:
    """The report over the made-up sweep, counted against its grid."""
    collected = collect(sweep)
    write_csv(collected.table, sweep.parent / "clean_runs.csv")
    states = collected.states
    runs = table.read(sweep.parent / "clean_runs.csv")
    sets = {"grid": made_up.configs()}
    out = sweep.parent / "report"
    return Report(runs, states, out, runs_dir=sweep, sets=sets)


@pytest.fixture(scope="session")
def page_file(report: Report) -> Path:
    """Its page."""
    return report.page()


@pytest.fixture(scope="session")
def few(report: Report) -> Report:
    """The best ten runs of each architecture, and some others."""
    best = table.ranked(report.runs, report.column).groupby("Modelname").head(10)
    chosen = {*best.index, *report.runs.index[::25]}
    out = report.out.parent / "few"
    return replace(report, runs=report.runs.loc[sorted(chosen)], out=out)


@pytest.fixture(scope="session")
def few_file(few: Report) -> Path:
    """Their page."""
    return few.page()


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium, without a window."""
    from docs import browser

    if browser.installed() is None:
        lacking("needs a browser: chromium")
    with browser.chromium() as found:
        yield found
