"""Who is told how a run goes. The trainer never asks whether anybody is."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Row = dict[str, Any]
Running = Callable[[], tuple[float, float]]


class Tracker(Protocol):
    """Hears of a run as it trains."""

    def step(self, epoch: int, done: int, total: int, running: Running) -> None:
        """After each step: epoch (from 1), images done and in all in it.

        running() reads the epoch's mean loss and accuracy, and waits for the device to do so.
        """

    def epoch(self, rows: Sequence[Row]) -> None:
        """After each epoch: the rows of all epochs so far."""

    def before_save(self) -> None:
        """Before a resume checkpoint is written; what it raises prevents that."""


class Trackers:
    """Passes everything on to several trackers, or to none."""

    def __init__(self, *trackers: Tracker) -> None:
        self.trackers = trackers

    def step(self, epoch: int, done: int, total: int, running: Running) -> None:
        for tracker in self.trackers:
            tracker.step(epoch, done, total, running)

    def epoch(self, rows: Sequence[Row]) -> None:
        for tracker in self.trackers:
            tracker.epoch(rows)

    def before_save(self) -> None:
        for tracker in self.trackers:
            tracker.before_save()
