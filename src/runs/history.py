"""What is written of a run while it trains."""

from collections.abc import Sequence
from typing import Any

from src.runs.leases import Lease
from src.runs.run_folder import RunFolder
from src.training.tracker import Running


class HistoryFile:
    """Keeps history.jsonl, as long as the run is ours."""

    def __init__(self, folder: RunFolder, lease: Lease) -> None:
        self.folder, self.lease = folder, lease

    def step(self, epoch: int, done: int, total: int, running: Running) -> None:
        """Steps leave no trace."""

    def epoch(self, rows: Sequence[dict[str, Any]]) -> None:
        self.lease.require()
        self.folder.write_history(rows)

    def before_save(self) -> None:
        self.lease.require()
