"""The state of the sweep for the report page, from run folders."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from src.common.paths import SETS_DIR, shown
from src.config import RunConfig
from src.report.page.sweep_state import MISSING, STATES, SweepState
from src.sweep import grid, sets
from src.sweep.status import overview, run_states
from src.sweep.status.device_time import total_seconds

Sets = Mapping[str, Sequence[RunConfig]]
"""The runs of a sweep, by the set or grid that they are in."""


def read_sets(folder: Path | None, grid_file: Path | None) -> Sets | None:
    """The runs of a folder of sets or of a grid. Returns None if neither is given."""
    if grid_file:
        return {"grid": grid.expand(grid.read(grid_file), str(grid_file))}
    return sets.read_numbered(folder, []) if folder else None


def state_of_folders(runs_dir: Path, given: Sets | None = None) -> SweepState:
    """The state of the cells of sets, or of those that the run folders were made for."""
    reference = "the cells that there are run folders for: --sets or --grid tell which are missing"
    runs = run_states.of_folders(runs_dir)
    expected = given if given is not None else _default_sets(runs_dir)
    if expected:
        runs, outside = run_states.of_sets(expected, runs_dir)
        reference = f"the {sum(map(len, expected.values()))} cells of the sweep's sets"
        reference += f"; {outside} run folders belong to none of them" if outside else ""
    state = overview.overview(runs, None)
    return SweepState(
        cells={model: _by_state(counts.cells) for model, counts in state.models.items()},
        reference=reference,
        device_hours=total_seconds(run.snapshot for run in runs) / 3600,
        wasted_hours=state.wasted_device_hours,
        failures=[
            asdict(group) | {"example": shown(Path(group.example))} for group in state.failures
        ],
    )


def _default_sets(runs_dir: Path) -> Sets | None:
    """The repository's own sets. Returns None unless most of the run folders belong to them."""
    if not sets.numbered(SETS_DIR):
        return None
    default = sets.read_numbered(SETS_DIR, [])
    runs, outside = run_states.of_sets(default, runs_dir)
    begun = sum(bool(run.snapshot.names) for run in runs)
    return default if begun > outside else None


def _by_state(cells: Mapping[Any, int]) -> dict[str, int]:
    """Number of cells in each of the page's states: pending cells are missing."""
    counts = {str(state): count for state, count in cells.items()}
    return {state: counts.get("pending" if state == MISSING else state, 0) for state in STATES}
