"""history.jsonl: written beside training after every epoch, as long as the run is leased to us."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from src.common.background import BackgroundThread
from src.runs.leases import Lease
from src.runs.run_folder import RunFolder
from src.training.tracker import Row, RunningMetrics, Tracker

_thread = BackgroundThread("history")  # one for all runs: they share a disk


class HistoryFile(Tracker):
    """Writes the history of one run off the thread that trains.

    Of several epochs that end while the file system is busy, only the newest state is written.
    `flush` comes before every checkpoint and result, so that neither is ahead of the history.
    What failed in the thread is raised by the next `epoch` or `flush`: LeaseLost once another
    process owns the run, or OSError.
    """

    def __init__(self, folder: RunFolder, lease: Lease) -> None:
        self.folder, self.lease = folder, lease
        self._trained = self._saves_progress = False
        self._lock = threading.Lock()
        self._newest: Sequence[Row] | None = None  # what the thread is to write
        self._writing: Future[None] | None = None

    def step(self, epoch: int, done: int, total: int, running: RunningMetrics) -> None:
        self._trained = True

    def epoch(self, rows: Sequence[Row]) -> None:
        with self._lock:
            self._newest = list(rows)
            if self._writing is None:
                self._writing = _thread.submit(self._write)
                return
            failed = self._writing.done()  # a write that succeeded leaves no future behind
        if failed:
            self.flush()

    def before_save(self) -> None:
        self.flush()
        self.lease.ensure_held()
        self._saves_progress = self._trained

    def saved(self) -> None:
        self.lease.progressed |= self._saves_progress

    def flush(self) -> None:
        with self._lock:
            writing = self._writing
        if writing:
            writing.result()

    def _write(self) -> None:
        """Write until there is nothing newer. A failure stays in the future, and ends writing."""
        while True:
            with self._lock:
                rows, self._newest = self._newest, None
                if rows is None:
                    self._writing = None
                    return
            self._replace(rows)

    def _replace(self, rows: Sequence[Row]) -> None:
        """Write the rows, unless another process has taken the run over: also while we write.

        A process that was cut off from the file system in the middle of this goes on where it
        was: the process that has taken the run over then has removed the file being written.
        """
        self.lease.ensure_held()
        try:
            self.folder.write_history(rows, before_rename=self.lease.ensure_held)
        except OSError as error:
            cause = self.lease.cause_of(error)
            if cause is error:
                raise
            raise cause from error

    def cause_of(self, error: Exception) -> Exception:
        return self.lease.cause_of(error)
