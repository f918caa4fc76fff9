"""Runs without a comparable result beside those with one, so that no level looks better than it is.

A mean over finished runs alone flatters a level with which others diverged or were pruned.
"""

import math

import pandas as pd

from src.faults.failure_classes import FailureClass
from src.report.statistics import comparable_runs
from src.report.table import MODEL, is_pruned, lower_is_better

OUTCOME, RANKED = "outcome", "ranked_value"
"""Columns: how a run ended; the value by which it is ranked among all, if it says anything."""
FINISHED, PRUNED, DIVERGED, FAILED = "finished", "pruned", "diverged", "failed"


def with_unfinished(
    table: pd.DataFrame, model: str, column: str, failed: pd.DataFrame | None
) -> pd.DataFrame:
    """The runs of an architecture, however they ended, with the columns OUTCOME and RANKED.

    A pruned run is ranked by what it had reached at its rung, a diverged one last. Failures of
    memory, nodes or code say nothing about the settings: they have no rank. failed: as
    `Collected.failed`; None if it is not known.
    """
    finished = comparable_runs(table, model, column)
    pruned = table[(table[MODEL] == model) & is_pruned(table)].dropna(subset=[column])
    parts = [
        finished.assign(outcome=FINISHED, ranked_value=finished[column]),
        pruned.assign(outcome=PRUNED, ranked_value=pruned[column]),
    ]
    if failed is not None and not failed.empty:
        of_model = failed[failed[MODEL] == model]
        diverged = of_model["failure"] == FailureClass.DIVERGED
        worst = math.inf if lower_is_better(column) else -math.inf
        outcome = diverged.map({True: DIVERGED, False: FAILED})
        rank = diverged.map({True: worst, False: math.nan})
        parts.append(of_model.assign(outcome=outcome, ranked_value=rank))
    filled = [part for part in parts if not part.empty]
    columns = [*table.columns, OUTCOME, RANKED]
    return pd.concat(filled, ignore_index=True).reindex(columns=columns)
