"""Train many runs on one device: slots that advance in turn, each with one run."""

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from src.common.errors import LeaseLost, Stopped
from src.cpu.allocator import return_freed_memory
from src.faults.failure_classes import FailureClass, affects_every_run, classify
from src.training import memory
from src.training.concurrency import Concurrency, FixedConcurrency
from src.training.trainer import Trainer

_IDLE_SECONDS = 1e-4  # each slot has four steps queued, of 0.1 ms or more


@dataclass(frozen=True)
class FinishedRun:
    """A run that has left its slot: trained to its end, or failed with `error`."""

    trainer: Trainer
    error: Exception | None = None


class TrainingGroup:
    """The runs in training on one device, as many as `concurrency` allows (default: one).

    A run gives the same result in a group as alone. A run that is out of memory beside others is
    stopped, and goes on from its last checkpoint once fewer are open; alone, it fails with
    OutOfMemory. A context manager: leaving it stops every run, without saving.
    """

    def __init__(
        self,
        concurrency: Concurrency | None = None,
        log: Callable[[str], object] = lambda line: None,
    ) -> None:
        """log: receives a line about each run that was out of memory."""
        self._concurrency = concurrency or FixedConcurrency(1)
        self._log = log
        self._open: deque[Trainer] = deque()  # the one whose turn it is comes first
        self._waiting: deque[Trainer] = deque()  # out of memory beside others: to be started again
        self._images_of_closed = 0

    def __enter__(self) -> "TrainingGroup":
        return self

    def __exit__(self, *error: object) -> None:
        for trainer in (*self._open, *self._waiting):
            trainer.stop()

    def __len__(self) -> int:
        return len(self._open) + len(self._waiting)

    def has_room(self) -> bool:
        """Whether another run may be added."""
        return len(self) < self._concurrency.limit

    def add(self, trainer: Trainer) -> None:
        """Train a run in a free slot. The next `advance` starts it, unless it is started."""
        self._open.append(trainer)

    def save(self) -> None:
        """Write every checkpoint that can be written, then raise the first error, if any."""
        errors = []
        for trainer in self._open:
            try:
                with suppress(LeaseLost):
                    trainer.save()
            except OSError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def train(
        self,
        take: Callable[[], Trainer | None],
        *,
        wait: Callable[[], bool] = lambda: False,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[FinishedRun]:
        """Train every run that `take` hands out, yielding each as it ends.

        take: called when a slot is free; None if there is no run now. wait: called when every run
        has ended; False if there will be no other. Raises Stopped, with every run saved, once
        stop() is true.
        """
        while True:
            if stop():
                self.save()
                raise Stopped
            while self.has_room() and (trainer := take()):
                self.add(trainer)
            if not len(self) and not wait():
                return
            if finished := self.advance(stop):
                yield finished

    def advance(self, stop: Callable[[], bool] = lambda: False) -> FinishedRun | None:
        """Do a unit of work in every slot, until one run ends or stop() is true.

        Returns the run that ended, if one did, after freeing its memory.
        """
        finished = None
        while self._waiting and len(self._open) < self._concurrency.limit:
            self._open.append(self._waiting.popleft())
        for _ in range(len(self._open)):
            trainer = self._open[0]
            self._open.rotate(-1)
            finished = self._advance_one(trainer)
            if finished:
                trainer.stop()
                return_freed_memory()
            if finished or stop() or trainer not in self._open:
                break
        if self._open and all(trainer.waiting for trainer in self._open):
            time.sleep(_IDLE_SECONDS)  # instead of busy-waiting
        images = sum(trainer.images_trained for trainer in self._open)
        self._concurrency.record(self._images_of_closed + images, len(self._open))
        return finished

    def _advance_one(self, trainer: Trainer) -> FinishedRun | None:
        """Returns the run if it has ended, and None while it goes on or waits for memory."""
        try:
            if _start_or_advance(trainer):
                trainer.save_if_due()
                return None
            error = None
        except Exception as raised:
            cause = trainer.context.tracker.cause_of(raised)
            if affects_every_run(cause):
                raise
            error = self._wind_down(trainer, cause)
        alone = len(self._open) == 1
        self._open.remove(trainer)
        self._images_of_closed += trainer.images_trained
        if error and not alone and classify(error) is FailureClass.MEMORY:
            self._put_back(trainer)
            return None
        return FinishedRun(trainer, error)

    def _put_back(self, trainer: Trainer) -> None:
        self._concurrency.out_of_memory(len(self._open) + 1)
        limit = self._concurrency.limit
        self._log(f"{trainer.config.title}: out of memory, put back; from now on {limit} at a time")
        trainer.stop()
        memory.give_back()
        self._waiting.append(trainer)

    def _wind_down(self, trainer: Trainer, error: Exception) -> Exception:
        """The error of a failed run, after everything that it had queued has come to its end."""
        failure = classify(error)
        if failure is FailureClass.MEMORY and len(self._open) == 1:
            short = memory.shortage(error, trainer.data.device)
            short.__cause__ = error
            error = short
        if failure not in (FailureClass.NODE, FailureClass.CUDA):  # it may never come to an end
            trainer.synchronize()
        with suppress(OSError, LeaseLost):  # what broke the run is the error to record
            trainer.context.tracker.flush()
        for raised in (error, error.__cause__):
            if raised is not None:
                traceback.clear_frames(raised.__traceback__)  # they hold the step's tensors
        return error


def _start_or_advance(trainer: Trainer) -> bool:
    """Start a run, or do its next unit of work. Returns False at its end."""
    if trainer.is_started:
        return trainer.advance()
    trainer.start()
    return True
