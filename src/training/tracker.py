"""Trackers: receive the events of a run in training. The trainer never asks if there is one."""

from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
"""The metrics of one epoch, as history.jsonl holds them."""

RunningMetrics = Callable[[], tuple[float, float]]
"""Returns mean loss and accuracy of the current epoch so far. May wait for the device."""


class Tracker:
    """Receives the events of one run. Every method does nothing unless it is overridden."""

    def resumed(self, epochs: int, steps: int) -> None:
        """The run continues from a checkpoint after so many whole epochs and further steps."""

    def step(self, epoch: int, done: int, total: int, running: RunningMetrics) -> None:
        """A training step ended: epoch (from 1), and images done and in total in that epoch."""

    def epoch(self, rows: Sequence[Row]) -> None:
        """An epoch ended: one row for each epoch so far."""

    def note(self, line: str) -> None:
        """Something that a person should know of the run, in one line."""

    def before_save(self) -> None:
        """A resume checkpoint is about to be written. An exception prevents it."""

    def saved(self) -> None:
        """That checkpoint is on the disk. Called from the thread that writes checkpoints."""

    def flush(self) -> None:
        """Return once every epoch so far is on the disk. Raises what has failed meanwhile."""

    def cause_of(self, error: Exception) -> Exception:
        """The cause of an error in training: `error` itself unless another one is known."""
        return error


class Trackers(Tracker):
    """Passes every event on to several trackers, in order."""

    def __init__(self, *trackers: Tracker) -> None:
        self.trackers = trackers

    def resumed(self, epochs: int, steps: int) -> None:
        for tracker in self.trackers:
            tracker.resumed(epochs, steps)

    def step(self, epoch: int, done: int, total: int, running: RunningMetrics) -> None:
        for tracker in self.trackers:
            tracker.step(epoch, done, total, running)

    def epoch(self, rows: Sequence[Row]) -> None:
        for tracker in self.trackers:
            tracker.epoch(rows)

    def note(self, line: str) -> None:
        for tracker in self.trackers:
            tracker.note(line)

    def before_save(self) -> None:
        for tracker in self.trackers:
            tracker.before_save()

    def saved(self) -> None:
        for tracker in self.trackers:
            tracker.saved()

    def flush(self) -> None:
        for tracker in self.trackers:
            tracker.flush()

    def cause_of(self, error: Exception) -> Exception:
        for tracker in self.trackers:
            error = tracker.cause_of(error)
        return error
