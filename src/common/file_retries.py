"""Call file operations again while the file system fails for a moment."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FILE_SYSTEM_ERRORS = (errno.EIO, errno.ESTALE, errno.EREMOTEIO)
"""Errors of a file system that does not work at the moment."""


class FileRetries:
    """Calls operations again with growing pauses while the file system fails.

    It may fail for a while when a server restarts, or on a mount with a time limit (soft).
    """

    def __init__(self, *pauses: float) -> None:
        self.pauses = pauses  # seconds
        self._given_up = False

    def __call__(self, operation: Callable[[], T]) -> T:
        """Return the result of `operation`.

        Raises OSError once the pauses are over; from then on at once, until an operation succeeds:
        a process with 48 runs to save, or thousands of folders to read, must not wait for each.
        """
        pauses = iter(() if self._given_up else self.pauses)
        while True:
            try:
                result = operation()
            except OSError as error:
                if error.errno not in FILE_SYSTEM_ERRORS:
                    raise
                pause = next(pauses, None)
                if pause is None:
                    self._given_up = True
                    raise
                time.sleep(pause)
            else:
                self._given_up = False
                return result


retry_write = FileRetries(1, 2, 4, 8, 16, 29, 60, 60, 60, 60)
"""Waits for up to five minutes: work of hours may be lost if a file cannot be written."""

retry_read = FileRetries(0.1, 0.1, 0.2, 0.4, 0.8, 1.4)
"""Waits for up to three seconds, for operations that open a file by its path."""
