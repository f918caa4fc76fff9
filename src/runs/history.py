"""history.jsonl: written after every epoch, as long as the run is leased to this process."""

from collections.abc import Sequence

from src.runs.leases import Lease
from src.runs.run_folder import RunFolder
from src.training.tracker import Row, Tracker


class HistoryFile(Tracker):
    """Writes the history of one run. Raises LeaseLost once another process owns the run."""

    def __init__(self, folder: RunFolder, lease: Lease) -> None:
        self.folder, self.lease = folder, lease

    def epoch(self, rows: Sequence[Row]) -> None:
        self.lease.ensure_held()
        # and again: who was cut off from the file system in the middle of this goes on there
        self.folder.write_history(rows, before_rename=self.lease.ensure_held)

    def before_save(self) -> None:
        self.lease.ensure_held()

    def cause_of(self, error: Exception) -> Exception:
        return self.lease.cause_of(error)
