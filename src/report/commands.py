"""Commands over a table of runs: aggregate it, draw charts, write tables and the page."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.common.errors import ExitStatus, UserError
from src.common.paths import CSV_FILE, shown
from src.report.page.sweep_state import SweepState
from src.report.report_data import (
    NoFinishedRun,
    ReportData,
    TableOptions,
    aggregate_runs,
    load_report,
)
from src.runs.aggregate import unfinished

if TYPE_CHECKING:
    from matplotlib.figure import Figure


StateOf = Callable[[Path], SweepState]
"""The state of the sweep in a folder of run folders."""


def aggregate(options: TableOptions) -> ExitStatus:
    """Merge the run folders into one CSV."""
    path = options.csv or CSV_FILE
    collected = aggregate_runs(options, path)
    missing = unfinished(sum(collected.states.values(), Counter()))
    print(f"{len(collected.table)} rows in {shown(path)}")
    if missing:
        options.note(f"not in it: {missing}")
    return ExitStatus.DONE


def top_k_charts(options: TableOptions) -> ExitStatus:
    """A chart of the k best runs for each architecture."""
    from src.report.charts import top_k

    return _save(top_k.figures(load_report(options)), options)


def top_k_table(options: TableOptions, *, as_json: bool) -> ExitStatus:
    """Print the k best runs of each architecture as a table or as JSON."""
    from src.report import export_tables

    report = load_report(options)
    rows = export_tables.top_k_table(report)
    if as_json:
        records = rows.to_dict("records")
        print(json.dumps(records, indent=2, default=lambda value: value.item()))
        return ExitStatus.DONE
    print(rows.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if missing := report.missing():
        options.note(f"not in it: {missing}")
    return ExitStatus.DONE


def overall(options: TableOptions) -> ExitStatus:
    """A chart of the best run of each architecture."""
    from src.report.charts import overall

    return _save(overall.figures(load_report(options)), options)


def data_sets(options: TableOptions) -> ExitStatus:
    """A chart of each architecture across the data sets of the table."""
    from src.report.charts import data_sets

    figure = data_sets.figure(load_report(options))
    if figure is None:
        raise UserError("the table has one data set; expected runs on several")
    return _save([("data_sets", figure)], options)


def effects(options: TableOptions) -> ExitStatus:
    """A chart of main effects."""
    from src.report.charts import main_effects

    return _save([("effects", main_effects.figure(load_report(options)))], options)


def pairs(options: TableOptions) -> ExitStatus:
    """Heat maps of every two settings for each architecture."""
    from src.report.charts import pairs

    return _save(pairs.figures(load_report(options)), options)


def importance(options: TableOptions) -> ExitStatus:
    """A chart of the importance of settings."""
    from src.report.charts import importance

    return _save([("importance", importance.figure(load_report(options)))], options)


def parallel(options: TableOptions) -> ExitStatus:
    """A chart of parallel coordinates."""
    from src.report.charts import parallel_coordinates

    return _save([("parallel", parallel_coordinates.figure(load_report(options)))], options)


def scatter(options: TableOptions) -> ExitStatus:
    """A chart of validation and test accuracies."""
    from src.report.charts import scatter

    return _save([("scatter", scatter.figure(load_report(options)))], options)


def confirmed(options: TableOptions) -> ExitStatus:
    """A chart of each architecture's shortlist with fresh seeds, and its winner."""
    from src.report.charts import shortlist

    report = load_report(options)
    if not report.confirmations:
        raise UserError("nothing was confirmed: see python -m src.sweep confirm")
    return _save(shortlist.figures(report), options)


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
    return _print_paths(_write_everything(load_report(options), options, state_of))


def _write_everything(report: ReportData, options: TableOptions, state_of: StateOf) -> list[Path]:
    """Write every chart and table, the text summary and the page; returns their paths."""
    from src.report import export_tables, text_summary
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

    out = options.out
    return [
        *save_all(overall.figures(report), out),
        *save_all([("data_sets", data_sets.figure(report))], out),
        *save_all(top_k.figures(report), out),
        *save_all([("effects", main_effects.figure(report))], out),
        *save_all(pairs.figures(report), out),
        *save_all([("importance", importance.figure(report))], out),
        *save_all([("parallel", parallel_coordinates.figure(report))], out),
        *save_all([("scatter", scatter.figure(report))], out),
        *save_all(shortlist.figures(report), out),
        *export_tables.write_tables(report, out / "tables"),
        *text_summary.write(report, out),
        _write_page(report, options, state_of),
    ]


def _watch(options: TableOptions, read_cells: Callable[[], StateOf], seconds: float) -> ExitStatus:
    """Write the page again and again until Ctrl-C, from the first finished run on."""

    def write(watch: float | None) -> Path | None:
        try:
            state_of = read_cells()
            return _write_page(load_report(options), options, state_of, watch)
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


def _save(figures: "Iterable[tuple[str, Figure | None]]", options: TableOptions) -> ExitStatus:
    from src.report.charts.figure import save_all

    return _print_paths(save_all(figures, options.out))


def _print_paths(paths: Sequence[Path]) -> ExitStatus:
    for path in paths:
        print(shown(path))
    if not paths:
        raise UserError("no two runs of an architecture can be compared: nothing to draw")
    return ExitStatus.DONE
