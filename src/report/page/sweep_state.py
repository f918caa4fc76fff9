"""The state of the sweep as the page shows it: cells by state, hours, failures."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from src.report.settings import settings_of
from src.report.table import MODEL, drop_aliases, is_pruned

MISSING = "missing"
STATES = ("done", "pruned", "running", "interrupted", "failed", MISSING)
_LARGEST_GRID = 4  # times the rows of a table; if its values span more, it is no grid


@dataclass(frozen=True, kw_only=True)
class SweepState:
    """How many cells of a sweep are done, what they took, and why runs failed."""

    cells: dict[str, dict[str, int]]
    """Number of cells in each of STATES, by architecture."""
    reference: str
    """What the cells were counted against, in words."""
    device_hours: float | None = None
    """Hours that devices were occupied by all attempts. None: not recorded."""
    training_hours: float | None = None
    """Training hours added over runs, without run folders: runs that shared a device each count."""
    wasted_hours: float | None = None
    """Of attempts whose work was lost. None: not recorded."""
    failures: list[dict[str, Any]] = field(default_factory=list)
    """Groups of failed runs (kind, trainings, example, message, hint), the largest first."""

    @property
    def total(self) -> dict[str, int]:
        """The cells of all architectures by state."""
        return {state: sum(cells[state] for cells in self.cells.values()) for state in STATES}

    def sorted_by(self, models: list[str]) -> "SweepState":
        """The same with the architectures in this order, and others after them."""
        order = [model for model in dict.fromkeys([*models, *self.cells]) if model in self.cells]
        return replace(self, cells={model: self.cells[model] for model in order})


def state_of_table(table: pd.DataFrame) -> SweepState:
    """The state of a sweep without run folders: rows, and gaps in the grid that they span."""
    pruned = is_pruned(table)
    cells = {}
    for model, rows in table.groupby(MODEL, sort=False):
        counts = dict.fromkeys(STATES, 0)
        counts["pruned"] = int(pruned[rows.index].sum())
        counts["done"] = len(rows) - counts["pruned"]
        counts[MISSING] = _number_of_gaps(rows)
        cells[str(model)] = counts
    hours = None
    if "train_seconds" in table and table["train_seconds"].notna().any():
        hours = float(drop_aliases(table)["train_seconds"].sum()) / 3600
    reference = "the grid that the values of the table span"
    return SweepState(cells=cells, reference=reference, training_hours=hours)


def _number_of_gaps(rows: pd.DataFrame) -> int:
    """Cells of the full grid of the rows' values that have no row. 0 if the rows are no grid.

    Seeds do not count: `confirm` trains some cells with more of them.
    """
    settings = [setting for setting in settings_of(rows) if setting.name != "seed"]
    grid = math.prod(len(setting.levels) for setting in settings)
    cells = len(rows[[setting.name for setting in settings]].drop_duplicates())
    return grid - cells if cells < grid <= _LARGEST_GRID * cells else 0
