"""Write the history of a run as a training does."""

from typing import Any

from src.runs.history import HistoryFile


def write_history(file: HistoryFile, rows: list[dict[str, Any]]) -> None:
    """End an epoch with these rows, and wait until they are written."""
    file.epoch(rows)
    file.flush()
