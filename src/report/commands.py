"""Commands over a table of runs: aggregate it, draw charts, write tables and the page."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from src.common.errors import ExitStatus, UserError
from src.common.json_text import json_text
from src.common.paths import CSV_FILE, shown
from src.report.page.sweep_state import SweepState
from src.report.report_data import (
    NoFinishedRun,
    ReportData,
    TableOptions,
    aggregate_runs,
    load_report,
)
from src.runs.aggregate import unfinished, write_csv

StateOf = Callable[[Path], SweepState]
"""The state of the sweep in a folder of run folders."""


def aggregate(options: TableOptions) -> ExitStatus:
    """Merge the run folders into one CSV."""
    path = options.csv or CSV_FILE
    collected = aggregate_runs(options, path)
    write_csv(collected.table, path)
    missing = unfinished(sum(collected.states.values(), Counter()))
    print(f"{len(collected.table)} rows in {shown(path)}")
    if missing:
        options.note(f"not in it: {missing}")
    return ExitStatus.DONE


def chart(options: TableOptions, *, name: str) -> ExitStatus:
    """Write one of the charts in `all_charts.CHARTS`. Raises UserError if there is none to draw."""
    from src.report.charts.all_charts import CHARTS
    from src.report.charts.figure import save_all
    from src.report.charts.nothing_to_draw import reason

    report = load_report(options)
    paths = save_all(CHARTS[name](report), options.out)
    if not paths:
        raise UserError(reason(name, report))
    return _print_paths(paths)


def top_k_table(options: TableOptions, *, as_json: bool) -> ExitStatus:
    """Print the k best runs of each architecture as a table or as JSON."""
    from src.report import export_tables

    report = load_report(options)
    rows = export_tables.top_k_table(report)
    if as_json:
        print(json_text(rows.to_dict("records")))
        return ExitStatus.DONE
    print(rows.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if missing := report.missing():
        options.note(f"not in it: {missing}")
    return ExitStatus.DONE


def tables(options: TableOptions) -> ExitStatus:
    """The tables behind the charts as CSV, Markdown and LaTeX in <out>/tables."""
    from src.report import export_tables

    return _print_paths(export_tables.write_tables(load_report(options), options.out / "tables"))


def findings(options: TableOptions) -> ExitStatus:
    """Print the results of each architecture in sentences, as Markdown."""
    from src.report import text_summary

    print(text_summary.markdown(load_report(options)), end="")
    return ExitStatus.DONE


def page(
    options: TableOptions, read_cells: Callable[[], StateOf], watch: float | None = None
) -> ExitStatus:
    """Every chart and table, the text summary and the page; or, to watch, the page alone.

    read_cells: reads what the cells of the page are counted against, and raises UserError if it
    cannot be read. watch: seconds from one writing of the page to the next; None writes it once.
    """
    if watch is not None:
        return _watch(options, read_cells, watch)
    state_of = read_cells()
    report = load_report(options, write_table=True)
    return _print_paths(_write_everything(report, options, state_of))


def _write_everything(report: ReportData, options: TableOptions, state_of: StateOf) -> list[Path]:
    """Write every chart and table, the text summary and the page; returns their paths."""
    from src.report import export_tables, text_summary
    from src.report.charts.all_charts import write_charts

    return [
        *write_charts(report, options.out),
        *export_tables.write_tables(report, options.out / "tables"),
        *text_summary.write(report, options.out),
        _write_page(report, options, state_of),
    ]


def _watch(options: TableOptions, read_cells: Callable[[], StateOf], seconds: float) -> ExitStatus:
    """Write the page again and again until Ctrl-C, from the first finished run on."""

    def write(watch: float | None) -> Path | None:
        try:
            state_of = read_cells()
            report = load_report(options, write_table=True)
            return _write_page(report, options, state_of, watch)
        except NoFinishedRun:
            return None

    try:
        while True:
            path = write(seconds)
            options.note(f"{shown(path)} written; Ctrl-C ends" if path else "no finished run yet")
            time.sleep(seconds)
    except KeyboardInterrupt:
        if path := write(None):  # a last one, which no longer reads itself again
            print(shown(path))
        return ExitStatus.DONE


def _write_page(
    report: ReportData, options: TableOptions, state_of: StateOf, watch: float | None = None
) -> Path:
    from src.report.page.render import write_page

    state = state_of(report.runs_dir) if report.runs_dir else None
    return write_page(report, options.out, state, watch=watch, show_progress=options.show_progress)


def _print_paths(paths: Sequence[Path]) -> ExitStatus:
    for path in paths:
        print(shown(path))
    return ExitStatus.DONE
