"""The reports over one table of runs, as commands: aggregate, charts, top-k table, page."""

import json
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from src.common.errors import ExitStatus, UserError
from src.common.paths import CSV_FILE, RUNS_DIR, shown
from src.common.progress import ShowProgress, show_progress, silent
from src.report import table
from src.runs.aggregate import Collected, collect, unfinished, write_csv

if TYPE_CHECKING:
    from src.report.build import Report
    from src.report.page.standing import Sets

TOP = 5


class NothingFinished(UserError):
    """There are run folders, but none of a run that has come to its end."""


def aggregate(parsed: Namespace) -> ExitStatus:
    """Merge the run folders into --csv."""
    collected = _collected(parsed, parsed.csv or CSV_FILE)
    missing = unfinished(sum(collected.states.values(), Counter()))
    print(f"{len(collected.table)} rows in {shown(parsed.csv or CSV_FILE)}")
    if missing:
        _note(parsed, f"not in it: {missing}")
    return ExitStatus.DONE


def making(name: str) -> Callable[[Namespace], ExitStatus]:
    """The command that makes what the method `name` of a Report makes, and prints its paths."""

    def act(parsed: Namespace) -> ExitStatus:
        written = getattr(_report(parsed), name)()
        for path in written:
            print(shown(path))
        if not written:
            raise UserError("no two runs of an architecture can be compared: nothing to draw")
        return ExitStatus.DONE

    return act


def everything(parsed: Namespace) -> ExitStatus:
    """Every chart and the page; with --watch, the page again and again until Ctrl-C."""
    if parsed.watch is None:
        return making("everything")(parsed)
    try:
        while True:
            path = _write_page(parsed, parsed.watch)
            _note(parsed, f"{shown(path)} written; Ctrl-C ends" if path else "no finished run yet")
            time.sleep(parsed.watch)
    except KeyboardInterrupt:
        if path := _write_page(parsed, None):  # one that waits for no other
            print(shown(path))
        return ExitStatus.DONE


def _write_page(parsed: Namespace, watch: float | None) -> Path | None:
    """The page as things stand now; None, and nothing written, before the first run is done."""
    try:
        return _report(parsed).page(watch)
    except NothingFinished:
        return None


def top_k_table(parsed: Namespace) -> ExitStatus:
    """Print the best runs of each architecture as a table or as JSON."""
    report = _report(parsed)
    rows = report.top_k_table()
    if parsed.json:
        found = rows.to_dict("records")
        print(json.dumps(found, indent=2, default=lambda value: value.item()))
        return ExitStatus.DONE
    print(rows.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if missing := report.missing():
        _note(parsed, f"not in it: {missing}")
    return ExitStatus.DONE


def print_findings(parsed: Namespace) -> ExitStatus:
    """Print what was shown of each architecture, as Markdown."""
    print(_report(parsed).findings_text(), end="")
    return ExitStatus.DONE


def _collected(parsed: Namespace, csv: Path) -> Collected:
    """Merge the run folders into `csv`. Raises UserError where no run is finished.

    The project's own table holds results on real data and no others.
    """
    runs_dir = parsed.runs or RUNS_DIR
    collected = collect(
        runs_dir, synthetic=csv.resolve() != CSV_FILE, show_progress=_follow(parsed)
    )
    for line in collected.unreadable:
        _note(parsed, f"left out: {line}")
    if collected.synthetic:
        _note(parsed, f"left out: {collected.synthetic} runs on synthetic data")
    if collected.table.empty:
        missing = unfinished(sum(collected.states.values(), Counter())) or "no others"
        raise NothingFinished(
            f"--runs {str(runs_dir)!r}: no finished run for {shown(csv)} ({missing})"
        )
    write_csv(collected.table, csv)
    return collected


def _report(parsed: Namespace) -> "Report":
    """The report that is asked for, over the table that is given or made now."""
    from src.report.build import Report

    runs_dir = parsed.runs
    if parsed.csv is None:
        runs_dir = parsed.runs or RUNS_DIR
        states = _collected(parsed, CSV_FILE).states
    else:
        states = collect(parsed.runs, show_progress=_follow(parsed)).states if parsed.runs else {}
    runs = table.read(parsed.csv or CSV_FILE)
    return Report(
        *(runs, states, parsed.out, parsed.k or TOP, parsed.model, parsed.rank_by),
        *(runs_dir, _sets(parsed), _follow(parsed)),
    )


def _sets(parsed: Namespace) -> "Sets | None":
    """What is to be trained, where --sets or --grid tell."""
    from src.report.page import standing

    if parsed.sets and parsed.grid:
        raise UserError("--sets, --grid: expected one of them")
    if (parsed.sets or parsed.grid) and parsed.csv and not parsed.runs:
        raise UserError("--sets, --grid: with --csv, --runs must name the run folders too")
    return standing.read_sets(parsed.sets, parsed.grid)


def _follow(parsed: Namespace) -> ShowProgress:
    return silent if parsed.quiet else show_progress


def _note(parsed: Namespace, line: str) -> None:
    if not parsed.quiet:
        print(line, file=sys.stderr)
