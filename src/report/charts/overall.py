"""The best run of each architecture, as bars with 95 % intervals."""

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from src.common.errors import UserError
from src.common.paths import file_name
from src.data.spec import title_of_data
from src.report.charts.top_k import RankedRun, draw_accuracy_bars, ranked_run
from src.report.report_data import ReportData
from src.report.settings import describe_runs
from src.report.table import DATASET, MODEL, cell_text, column_label, rank, records

_TITLE = "The best run of each architecture"


def best_of_each(table: pd.DataFrame, column: str) -> list[RankedRun]:
    """The best run of each architecture by a column, the best architecture first."""
    rows = records(rank(table, column).drop_duplicates(MODEL))
    return [ranked_run(row, f"{row[MODEL]}\n{describe_runs([row])[0]}") for row in rows]


def best_runs(report: ReportData) -> list[RankedRun]:
    """The best run of each architecture of a report. Raises UserError if no run has a rank."""
    runs = best_of_each(report.configurations, report.rank_column)
    if not runs:
        models = " or ".join(report.models)
        raise UserError(f"--rank_by {report.rank_column!r}: no run of {models} has a value in it")
    return runs


def by_data_set(runs: Sequence[RankedRun]) -> dict[str, list[RankedRun]]:
    """The runs of each data set, by its name; under '' where the table does not tell it."""
    groups: dict[str, list[RankedRun]] = {}
    for run in runs:
        groups.setdefault(cell_text(run.row.get(DATASET)) or "", []).append(run)
    return groups


def figures(report: ReportData) -> Iterator[tuple[str, Figure]]:
    """File name and chart: overall, or overall_<data set> for each of several data sets.

    Raises UserError if no run has a rank.
    """
    groups = by_data_set(best_runs(report))
    for name, runs in groups.items():
        several = len(groups) > 1
        title = f"The best run of each architecture on {title_of_data(name)}" if several else _TITLE
        rows = [run.row for run in runs]
        # the one chart of a table also counts architectures of which no run has finished
        models = [row[MODEL] for row in rows] if several else []
        note = report.accuracy_note(*models, drawn=rows)
        chart = draw(runs, report.rank_column, note, title)
        yield file_name(f"overall_{name}") if several else "overall", chart


def draw(runs: Sequence[RankedRun], rank_column: str, note: str, title: str = _TITLE) -> Figure:
    """The chart. note: the footnote."""
    subtitle = f"each chosen by {column_label(rank_column)}"
    return draw_accuracy_bars(runs, title, subtitle, note)
