"""Load the table of a report: read a CSV, or aggregate the run folders into one first."""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from src.common.errors import UserError
from src.common.paths import CSV_FILE, REPORT_DIR, RUNS_DIR, shown
from src.common.progress import ShowProgress, show_progress, silent
from src.report import table
from src.report.report_data import ReportData
from src.runs.aggregate import Collected, collect, unfinished, write_csv

TOP_K = 5
"""Default of -k."""


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Which table to report on, which of its runs, and where to write."""

    csv: Path | None = None
    """None: the run folders are aggregated into the project's own table first."""
    runs_dir: Path | None = None
    out: Path = REPORT_DIR
    k: int | None = None
    model: str | None = None
    rank_by: str | None = None
    quiet: bool = False

    @property
    def show_progress(self) -> ShowProgress:
        """How progress is shown."""
        return silent if self.quiet else show_progress

    def note(self, line: str) -> None:
        """Print a line on stderr, unless quiet."""
        if not self.quiet:
            print(line, file=sys.stderr)


class NoFinishedRun(UserError):
    """There are no run folders, or none of a finished run."""


def load_report(options: TableOptions) -> ReportData:
    """Read the table, aggregating it first unless it is given.

    Raises UserError if it cannot be read, NoFinishedRun if there is nothing to aggregate.
    """
    runs_dir = options.runs_dir
    if options.csv is None:
        runs_dir = runs_dir or RUNS_DIR
        states = aggregate_runs(options, CSV_FILE).states
    elif runs_dir:
        states = collect(runs_dir, show_progress=options.show_progress).states
    else:
        states = {}
    return ReportData(
        runs=table.read(options.csv or CSV_FILE),
        states=states,
        runs_dir=runs_dir,
        k=options.k or TOP_K,
        model=options.model,
        rank_by=options.rank_by,
    )


def aggregate_runs(options: TableOptions, path: Path) -> Collected:
    """Merge the run folders into `path`. Raises NoFinishedRun if no run is finished.

    The project's own table has no runs on synthetic data.
    """
    runs_dir = options.runs_dir or RUNS_DIR
    collected = collect(
        runs_dir, synthetic=path.resolve() != CSV_FILE, show_progress=options.show_progress
    )
    for line in collected.unreadable:
        options.note(f"left out: {line}")
    if collected.synthetic:
        options.note(f"left out: {collected.synthetic} runs on synthetic data")
    if collected.table.empty:
        missing = unfinished(sum(collected.states.values(), Counter())) or "no others"
        raise NoFinishedRun(
            f"--runs {str(runs_dir)!r}: no finished run for {shown(path)} ({missing})"
        )
    write_csv(collected.table, path)
    return collected
