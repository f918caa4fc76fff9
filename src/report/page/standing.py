"""Where the sweep stands: of its run folders where they are there, else of the table alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from src.common.paths import SETS_DIR, shown
from src.config import RunConfig
from src.report.numbers import SETTINGS
from src.report.settings import MODEL, settings
from src.report.table import is_pruned, trainings

Sets = Mapping[str, Sequence[RunConfig]]

MISSING = "missing"
STATES = ("done", "pruned", "running", "interrupted", "failed", MISSING)
_SPANS_TOO_MUCH = 4  # times the rows of a table: then it is no grid


@dataclass(frozen=True)
class Standing:
    """Cells of each architecture by state, device time, and failures by their cause."""

    cells: dict[str, dict[str, int]]
    """By architecture, then by STATES."""
    against: str
    """What the cells were counted against, in words."""
    device_hours: float | None
    """Of all attempts; None where nothing tells it."""
    wasted_hours: float | None
    failures: list[dict[str, Any]]
    """As `causes.Failures`, the most frequent first."""

    @property
    def total(self) -> dict[str, int]:
        """Of all architectures."""
        return {state: sum(cells[state] for cells in self.cells.values()) for state in STATES}


def read_sets(folder: Path | None, grid_file: Path | None) -> Sets | None:
    """The runs of a folder's sets or of a grid; None where neither is given."""
    from src.sweep import grid, sets

    if grid_file:
        return {"grid": grid.expand(grid.read(grid_file), str(grid_file))}
    return sets.read_numbered(folder, []) if folder else None


def of_folders(runs_dir: Path, sets: Sets | None) -> Standing:
    """Where the cells of `sets` stand, or those that the run folders were made for."""
    from src.sweep.status import overview, run_states

    against = "the cells that there are run folders for: --sets or --grid tell which are missing"
    found = run_states.of_folders(runs_dir)
    wanted = sets if sets is not None else _usual(runs_dir)
    if wanted:
        found, outside = run_states.of_sets(wanted, runs_dir)
        against = f"the {sum(map(len, wanted.values()))} cells of the sweep's sets"
        against += f"; {outside} run folders belong to none of them" if outside else ""
    now = overview.overview(found, None)
    seconds = (attempt.seconds for one in found for attempt in one.snapshot.attempts)
    return Standing(
        cells={model: _named(tally.cells) for model, tally in now.models.items()},
        against=against,
        device_hours=sum(seconds) / 3600,
        wasted_hours=now.wasted_device_hours,
        failures=[asdict(group) | {"example": _shown(group.example)} for group in now.failures],
    )


def of_table(table: pd.DataFrame) -> Standing:
    """What a table alone tells: its rows, and the gaps in the grid that its values span."""
    pruned = is_pruned(table)
    cells = {}
    for model, rows in table.groupby(MODEL, sort=False):
        counts = dict.fromkeys(STATES, 0)
        counts["pruned"] = int(pruned[rows.index].sum())
        counts["done"] = len(rows) - counts["pruned"]
        counts[MISSING] = _gaps(rows)
        cells[str(model)] = counts
    hours = None
    if "train_seconds" in table and table["train_seconds"].notna().any():
        hours = float(trainings(table)["train_seconds"].sum()) / 3600
    return Standing(cells, "the grid that the values of the table span", hours, None, [])


def _gaps(rows: pd.DataFrame) -> int:
    """Cells that are missing from the grid of the rows' values; 0 where they span none."""
    span = math.prod(len(one.levels) for one in settings(rows))
    cells = len(rows[[MODEL, *SETTINGS]].drop_duplicates())
    return span - cells if cells < span <= _SPANS_TOO_MUCH * cells else 0


def _usual(runs_dir: Path) -> Sets | None:
    """The repository's own sets, where any of their runs has begun; None otherwise."""
    from src.sweep import sets
    from src.sweep.status.run_states import of_sets

    if not sets.numbered(SETS_DIR):
        return None
    usual = sets.read_numbered(SETS_DIR, [])
    begun = (bool(one.snapshot.names) for one in of_sets(usual, runs_dir)[0])
    return usual if any(begun) else None


def _named(cells: Mapping[Any, int]) -> dict[str, int]:
    """By our words: what nobody has begun is missing."""
    counts = {str(state): count for state, count in cells.items()}
    return {state: counts.get("pending" if state == MISSING else state, 0) for state in STATES}


def _shown(path: str) -> str:
    return shown(Path(path))
