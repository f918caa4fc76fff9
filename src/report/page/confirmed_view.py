"""Confirmed winners, and configurations with several seeds, as plain values of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.common.result_values import TEST_ACCURACY
from src.comparison.confirmation import Confirmation
from src.report.charts.shortlist import SeedRow, seed_rows
from src.report.charts.top_k import ranked_run
from src.report.confirmed import confirmed_winner
from src.report.page.run_table import axis_limits
from src.report.replicates import SEEDS, replicates
from src.report.report_data import ReportData
from src.report.settings import describe_runs, plain
from src.report.table import MODEL, first_number, rank, records

_MAX_CONFIGURATIONS = 50  # of an architecture


def confirmed_view(confirmation: Confirmation) -> dict[str, Any]:
    """The shortlist of an architecture and its winner."""
    rows = [_row_view(row, confirmation.plan.model) for row in seed_rows(confirmation)]
    winner = confirmed_winner(confirmation)
    missing = len(confirmation.missing)
    return {
        "model": confirmation.plan.model,
        "rows": rows,
        "scale": axis_limits(rows),
        "sentences": list(winner.sentences())
        if winner
        else [f"Not decided yet: {missing} trainings with fresh seeds are missing."],
    }


def _row_view(row: SeedRow, model: str) -> dict[str, Any]:
    """A row; without an interval, its points give the ends."""
    values = [*row.points, row.mean, *([] if row.chosen is None else [row.chosen])]
    interval = row.interval
    ends = (interval.low, interval.high) if interval else (row.mean, row.mean)
    return {
        "model": model,
        "label": plain(row.label).replace("\n", " "),
        "verdict": row.verdict,
        "points": list(row.points),
        "accuracy": row.mean,
        "low": min(ends[0], *values),
        "high": max(ends[1], *values),
        "interval": list(ends) if interval else None,
        "chosen": row.chosen,
        "can_win": row.can_win,
    }


def several_seeds_view(report: ReportData, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The configurations with several seeds by architecture, best first, with their runs."""
    rows = report.configurations
    if SEEDS not in rows or not (rows[SEEDS] > 1).any():
        return []
    key_of = dict(zip(report.shown_runs.index, keys, strict=True))
    ranked = rank(rows[rows[SEEDS] > 1], report.rank_column)
    return [
        {
            "model": model,
            "configurations": [
                _configuration_view(report, row, label, key_of)
                for row, label in _labelled(records(ranked[ranked[MODEL] == model]))
            ],
        }
        for model in report.models
        if (ranked[MODEL] == model).any()
    ]


def _labelled(rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    shown = list(rows[:_MAX_CONFIGURATIONS])
    labels = describe_runs(shown)[1]
    return list(zip(shown, map(plain, labels), strict=True))


def _configuration_view(
    report: ReportData, row: dict[str, Any], label: str, key_of: Mapping[Any, str]
) -> dict[str, Any]:
    run, column = ranked_run(row, label), report.rank_column
    members = replicates(report.shown_runs, row)
    return {
        "label": label,
        "seeds": run.seeds,
        "ranked": row[column],
        "accuracy": run.accuracy,
        "deviation": row["seed_deviation"],
        "low": run.low,
        "high": run.high,
        "runs": [
            {
                "key": key_of[index],
                "seed": int(member["seed"]),
                "ranked": first_number(member, (column,)),
                "accuracy": member[TEST_ACCURACY],
            }
            for index, member in zip(members.index, records(members), strict=True)
        ],
    }
