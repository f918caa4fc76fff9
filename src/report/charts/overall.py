"""The best run of each architecture, as bars with 95 % intervals."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from src.common.errors import UserError
from src.report.charts.top_k import RankedRun, draw_accuracy_bars, ranked_run
from src.report.report_data import ReportData
from src.report.settings import describe_runs
from src.report.table import MODEL, column_label, rank, records


def best_of_each(table: pd.DataFrame, column: str) -> list[RankedRun]:
    """The best run of each architecture by a column, the best architecture first."""
    rows = records(rank(table, column).drop_duplicates(MODEL))
    return [ranked_run(row, f"{row[MODEL]}\n{describe_runs([row])[0]}") for row in rows]


def best_runs(report: ReportData) -> list[RankedRun]:
    """The best run of each architecture of a report. Raises UserError if no run has a rank."""
    runs = best_of_each(report.configurations, report.rank_column)
    if not runs:
        raise UserError(f"--rank-by: no run has a {report.rank_column}")
    return runs


def figure(report: ReportData) -> Figure:
    """The chart of a report. Raises UserError if no run has a rank."""
    return draw(best_runs(report), report.rank_column, report.accuracy_note())


def draw(runs: Sequence[RankedRun], rank_column: str, note: str) -> Figure:
    """The chart. note: the footnote."""
    subtitle = f"each chosen by {column_label(rank_column)}"
    return draw_accuracy_bars(runs, "The best run of each architecture", subtitle, note)
