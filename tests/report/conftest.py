"""Fixtures: a synthetic sweep of 864 cells, its report page, and a browser."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from src.data import synthetic
from src.report import table
from src.report.page.render import write_page
from src.report.page.sweep_state import SweepState
from src.report.report_data import ReportData
from src.runs.aggregate import PUBLISHED_COLUMNS, collect, write_csv
from src.sweep import grid
from src.sweep.status.page_state import state_of_folders
from tests.conftest import skip_or_fail
from tests.report import synthetic_sweep

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FAILED, PRUNED, MISSING = 7, 40, 12
"""Numbers of trainings of the synthetic sweep that are failed, pruned or missing."""


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write run folders of 864 cells; the fixture `report` adds clean_runs.csv."""
    name = "sweep_in_a_folder_whose_name_has_no_place_to_break_a_line"  # the page shows the path
    runs = tmp_path_factory.mktemp(name) / "runs"
    labels = synthetic.generate().test_labels
    synthetic_sweep.make(runs, labels, failed=FAILED, pruned=PRUNED, missing=MISSING)
    return runs


@pytest.fixture(scope="session")
def report(sweep: Path) -> ReportData:
    """Return the report data of the synthetic sweep."""
    collected = collect(sweep)
    write_csv(collected.table, sweep.parent / "clean_runs.csv")
    runs = table.read(sweep.parent / "clean_runs.csv")
    return ReportData(runs, collected.states, sweep)


@pytest.fixture(scope="session")
def state(sweep: Path) -> SweepState:
    """Return the state of the synthetic sweep relative to its grid."""
    return state_of_folders(sweep, {"grid": synthetic_sweep.configs()})


@pytest.fixture(scope="session")
def page_file(report: ReportData, state: SweepState, sweep: Path) -> Path:
    """Write the report page of the synthetic sweep."""
    return write_page(report, sweep.parent / "report", state)


@pytest.fixture(scope="session")
def small_report(report: ReportData) -> ReportData:
    """Return report data of the best ten runs of each architecture and some others."""
    best = table.rank(report.runs, report.rank_column).groupby("Modelname").head(10)
    chosen = {*best.index, *report.runs.index[::25]}
    return replace(report, runs=report.runs.loc[sorted(chosen)])


@pytest.fixture(scope="session")
def small_page_file(small_report: ReportData, state: SweepState, sweep: Path) -> Path:
    """Write the report page of `small_report`."""
    return write_page(small_report, sweep.parent / "few", state)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a table of 864 rows with the published columns only, and an index column."""
    random = np.random.default_rng(0)
    rows = []
    for config in grid.expand(grid.REFERENCE):
        row = dict(
            zip(PUBLISHED_COLUMNS, random.uniform(0.5, 0.8, len(PUBLISHED_COLUMNS)), strict=True)
        )
        row |= {"Modelname": config.model_type, "Group": config.model_type}
        row |= {"Full_Modelname": config.name, "augmentation": config.data_augmentation}
        row |= {
            n: getattr(config, n) for n in ("gamma", "learning_rate", "scheduler", "weight_decay")
        }
        rows.append(row)
    path = tmp_path_factory.mktemp("csv") / "published.csv"
    pd.DataFrame(rows, columns=PUBLISHED_COLUMNS).to_csv(path)
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Start headless Chromium, or skip."""
    from docs import browser

    if browser.installed() is None:
        skip_or_fail("needs a browser: chromium")
    with browser.chromium() as chromium:
        yield chromium
