"""Reports from the command line: python -m src.report"""

import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from src.cli import Parser, door, positive
from src.errors import ExitStatus, UserError
from src.paths import CSV_FILE, REPORT_DIR, RUNS_DIR, shown
from src.report import table
from src.results.aggregate import Collected, collect, unfinished, write_csv

if TYPE_CHECKING:
    from src.report.build import Report

_HELP = """Reports of a sweep.

  (nothing) or page    aggregate, then every chart and the page that shows them
  aggregate            merge the run folders into one CSV
  top-k [charts]       a chart of the k best runs of each architecture
  top-k table          the same as a table
  overall              a chart of the best run of each architecture

A file given with --csv is read as it is; otherwise the run folders are aggregated first."""

_MAKERS = {
    (): "everything",
    ("page",): "everything",
    ("top-k",): "top_k_charts",
    ("top-k", "charts"): "top_k_charts",
    ("overall",): "overall_chart",
}


def main(arguments: Sequence[str]) -> ExitStatus:
    """Aggregate where needed, and make what was asked for."""
    parser = Parser(prog="python -m src.report", description=_HELP)
    parser.add_argument("what", nargs="*", help="page | aggregate | top-k [charts|table] | overall")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="run folders [saved_models]")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="table [clean_runs.csv]")
    parser.add_argument(
        "--out", type=Path, default=REPORT_DIR, metavar="DIR", help="charts and page [report]"
    )
    parser.add_argument("-k", type=positive, default=5, metavar="N", help="runs in a top-k [5]")
    parser.add_argument("--model", metavar="NAME", help="this architecture alone")
    parser.add_argument(
        "--rank_by", metavar="COLUMN", help="test_accuracy or any column [best_val_accuracy]"
    )
    parser.add_argument("--json", action="store_true", help="top-k table: JSON on stdout")
    parsed = parser.parse(arguments)
    what = tuple(parsed.what)
    if parsed.json and what != ("top-k", "table"):
        raise UserError("--json: only `top-k table` prints anything that could be JSON")
    if what == ("aggregate",):
        return _aggregate(parsed)
    if what == ("top-k", "table"):
        return _top_k_table(_report(parsed), parsed.json)
    if what not in _MAKERS:
        known = "page, aggregate, top-k, top-k charts, top-k table, overall or nothing"
        raise UserError(f"unknown report {' '.join(what)!r}: expected {known}")
    for path in getattr(_report(parsed), _MAKERS[what])():
        print(shown(path))
    return ExitStatus.DONE


def _aggregate(parsed: Namespace) -> ExitStatus:
    """Merge the run folders into --csv."""
    collected = _collected(parsed.runs or RUNS_DIR, parsed.csv or CSV_FILE)
    missing = unfinished(sum(collected.states.values(), Counter()))
    print(f"{len(collected.table)} rows in {shown(parsed.csv or CSV_FILE)}")
    if missing:
        print(f"not in it: {missing}", file=sys.stderr)
    return ExitStatus.DONE


def _collected(runs_dir: Path, csv: Path) -> Collected:
    """Merge the run folders into `csv`. Raises UserError where no run is finished.

    The project's own table holds results on real data and no others.
    """
    collected = collect(runs_dir, synthetic=csv.resolve() != CSV_FILE)
    for line in collected.unreadable:
        print(f"left out: {line}", file=sys.stderr)
    if collected.synthetic:
        print(f"left out: {collected.synthetic} runs on synthetic data", file=sys.stderr)
    if collected.table.empty:
        missing = unfinished(sum(collected.states.values(), Counter())) or "no others"
        raise UserError(f"--runs {str(runs_dir)!r}: no finished run for {shown(csv)} ({missing})")
    write_csv(collected.table, csv)
    return collected


def _report(parsed: Namespace) -> "Report":
    """The report that is asked for, over the table that is given or made now."""
    from src.report.build import Report

    if parsed.csv is None:
        states = _collected(parsed.runs or RUNS_DIR, CSV_FILE).states
    else:
        states = collect(parsed.runs).states if parsed.runs else {}
    runs = table.read(parsed.csv or CSV_FILE)
    return Report(runs, states, parsed.out, parsed.k, parsed.model, parsed.rank_by)


def _top_k_table(report: "Report", as_json: bool) -> ExitStatus:
    rows = report.top_k_rows()
    if as_json:
        print(json.dumps(rows, indent=2, default=lambda value: value.item()))
        return ExitStatus.DONE
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if missing := report.missing():
        print(f"not in it: {missing}", file=sys.stderr)
    return ExitStatus.DONE


if __name__ == "__main__":
    door(main)
