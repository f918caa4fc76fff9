"""Reports from the command line: python -m src.report"""

import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from src.cli import Parser, door, positive
from src.errors import ExitStatus, UserError
from src.paths import CSV_FILE, REPORT_DIR, RUNS_DIR, shown
from src.report import numbers, table
from src.results.aggregate import Collected, collect, unfinished, write_csv
from src.results.store import State

_HELP = """Reports of a sweep.

  (nothing)            aggregate, then every chart
  aggregate            merge the run folders into one CSV
  top-k [charts]       a chart of the k best runs of each architecture
  top-k table          the same as a table
  overall              a chart of the best run of each architecture

A file given with --csv is read as it is; otherwise the run folders are aggregated first."""


def main(arguments: Sequence[str]) -> ExitStatus:
    """Aggregate where needed, and make what was asked for."""
    parser = Parser(prog="python -m src.report", description=_HELP)
    parser.add_argument("what", nargs="*", help="aggregate | top-k [charts|table] | overall")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="run folders [saved_models]")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="table [clean_runs.csv]")
    parser.add_argument(
        "--out", type=Path, default=REPORT_DIR, metavar="DIR", help="charts [report/]"
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
    makers = {
        (): (_top_k_charts, _overall),
        ("top-k",): (_top_k_charts,),
        ("top-k", "charts"): (_top_k_charts,),
        ("top-k", "table"): (_top_k_table,),
        ("overall",): (_overall,),
    }
    if what not in makers:
        asked = " ".join(what)
        raise UserError(
            f"unknown report {asked!r}: expected aggregate, top-k [charts|table], overall"
        )
    runs, states = _runs(parsed)
    for make in makers[what]:
        make(parsed, runs, states)
    return ExitStatus.DONE


States = dict[str, Counter[State]]


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


def _runs(parsed: Namespace) -> tuple[pd.DataFrame, States]:
    """The table, and where the runs stand as far as run folders tell."""
    if parsed.csv is None:
        states = _collected(parsed.runs or RUNS_DIR, CSV_FILE).states
        return table.read(CSV_FILE), states
    states = collect(parsed.runs).states if parsed.runs else {}
    return table.read(parsed.csv), states


def _top_k_charts(parsed: Namespace, runs: pd.DataFrame, states: States) -> None:
    from src.report import charts

    column = table.rank_column(runs, parsed.rank_by)
    for model in table.architectures(runs, parsed.model):
        chart = numbers.top_k(runs, model, parsed.k, column)
        if not chart.bars:
            print(f"no chart of {model}: none of its runs has a {column}", file=sys.stderr)
            continue
        _tell(charts.top_k(chart, _note(runs, states, model), parsed.out))


def _overall(parsed: Namespace, runs: pd.DataFrame, states: States) -> None:
    from src.report import charts

    column = table.rank_column(runs, parsed.rank_by)
    bars = numbers.overall(runs, column)
    if not bars:
        raise UserError(f"--rank-by: no run has a {column}")
    _tell(charts.overall(bars, column, _note(runs, states), parsed.out))


def _top_k_table(parsed: Namespace, runs: pd.DataFrame, states: States) -> None:
    column = table.rank_column(runs, parsed.rank_by)
    rows = []
    for model in table.architectures(runs, parsed.model):
        chart = numbers.top_k(runs, model, parsed.k, column)
        for place, bar in enumerate(chart.bars, 1):
            settings = {name: bar.row[name] for name in numbers.SETTINGS}
            rows.append(
                {
                    "model": model,
                    "rank": place,
                    **settings,
                    column: bar.row[column],
                    "test_accuracy": bar.accuracy,
                    "low_95": bar.low,
                    "high_95": bar.high,
                    "per_class_accuracy": bar.per_class_accuracy,
                }
            )
    if parsed.json:
        print(json.dumps(rows, indent=2, default=lambda value: value.item()))
        return
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    missing = unfinished(sum(states.values(), Counter()))
    if missing:
        print(f"not in it: {missing}", file=sys.stderr)


def _note(runs: pd.DataFrame, states: States, model: str | None = None) -> str:
    """What a reader of a chart must know: intervals, images, epochs, what is missing."""
    rows = runs if model is None else runs[runs["Modelname"] == model]
    images = _largest(rows, "test_images") or numbers.TEST_IMAGES
    parts = [f"Lines: 95 % Wilson intervals of {images:,} test images."]
    if epochs := _largest(rows, "num_epochs"):
        parts.append(f"At most {epochs} epochs.")
    if table.rank_column(runs, None) != table.DEFAULT_RANK:
        parts.append("The table does not tell the best validation accuracies.")
    counted = states.get(model, Counter()) if model else sum(states.values(), Counter[State]())
    if missing := unfinished(counted):
        parts.append(f"Not shown: {missing}.")
    return " ".join(parts)


def _largest(rows: pd.DataFrame, column: str) -> int | None:
    known: list[float] = rows[column].dropna().tolist() if column in rows else []
    return int(max(known)) if len(known) else None


def _tell(paths: list[Path]) -> None:
    print("\n".join(shown(path) for path in paths))


if __name__ == "__main__":
    door(main)
