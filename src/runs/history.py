"""history.jsonl: written after every epoch, as long as the run is leased to this process."""

from collections.abc import Sequence

from src.runs.leases import Lease
from src.runs.run_folder import RunFolder
from src.training.tracker import Row, RunningMetrics, Tracker


class HistoryFile(Tracker):
    """Writes the history of one run. Raises LeaseLost once another process owns the run."""

    def __init__(self, folder: RunFolder, lease: Lease) -> None:
        self.folder, self.lease = folder, lease
        self._trained = False

    def step(self, epoch: int, done: int, total: int, running: RunningMetrics) -> None:
        self._trained = True

    def epoch(self, rows: Sequence[Row]) -> None:
        """Write the rows, unless another process has taken the run over: also while we write.

        A process that was cut off from the file system in the middle of this goes on where it
        was: the process that has taken the run over then has removed the file being written.
        """
        self.lease.ensure_held()
        try:
            self.folder.write_history(rows, before_rename=self.lease.ensure_held)
        except FileNotFoundError:
            self.lease.ensure_held()
            raise

    def before_save(self) -> None:
        self.lease.ensure_held()
        self.lease.progressed |= self._trained
