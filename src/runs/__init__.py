"""Run folders: their files, leases, results, and the table made of them."""

from pathlib import Path
from typing import TYPE_CHECKING

from src.common.paths import RUNS_DIR

if TYPE_CHECKING:
    import pandas as pd


def load(runs_dir: Path | str = RUNS_DIR) -> "pd.DataFrame":
    """The table of all finished and pruned runs under `runs_dir`, as `report aggregate` writes it.

    One row per grid cell. Runs on the synthetic data set are left out if there are others.
    """
    from src.runs.aggregate import collect

    return collect(Path(runs_dir)).table
