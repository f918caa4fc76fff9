"""Many runs on one device: slots that advance in turn and are refilled from a queue."""

import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from src.common.errors import LeaseLost, Stopped
from src.faults.failure_classes import FailureClass, affects_every_run, classify
from src.training import memory
from src.training.concurrency import Concurrency, FixedConcurrency
from src.training.trainer import Trainer


@dataclass(frozen=True)
class Finished:
    """A run that left its slot: trained to the end, or broken by `error`."""

    trainer: Trainer
    error: Exception | None = None


def train(
    queue: Iterator[Trainer],
    *,
    slots: Concurrency | None = None,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], object] = lambda line: None,
) -> Iterator[Finished]:
    """Train every run of `queue`, as many at a time as `slots` allows (one), yielding each ended.

    A Trainer is taken from the queue when a slot is free for it. A run alone is a group of one,
    and a run in a group gives the result that it gives alone. A run that has ended is closed when
    the next is asked for. One that runs out of memory beside others gives its own back, and goes
    on from its last checkpoint once fewer are open; alone, it ends with OutOfMemory. say hears a
    line of that. Raises Stopped, with every open run saved, once stop() is true.
    """
    slots = slots or FixedConcurrency(1)
    open_slots: list[Trainer] = []
    put_back: deque[Trainer] = deque()
    images_of_ended = 0
    while True:
        if stop():
            _save_all(open_slots)
            raise Stopped
        while len(open_slots) < slots.limit and (more := _next(put_back, queue)):
            open_slots.append(more)
        if not open_slots:
            return
        for trainer in tuple(open_slots):
            finished = _advance(trainer, alone=len(open_slots) == 1)
            if finished:
                open_slots.remove(trainer)
                images_of_ended += trainer.images_trained
                if (
                    open_slots
                    and finished.error
                    and classify(finished.error) is FailureClass.MEMORY
                ):
                    slots.out_of_memory(len(open_slots) + 1)
                    name, fewer = trainer.config.name, slots.limit
                    say(f"{name}: out of memory, put back; from now on {fewer} at a time")
                    trainer.release()
                    memory.give_back()
                    put_back.append(trainer)
                else:
                    yield finished
                    trainer.close()
                    memory.trim()
            if finished or stop():
                break
        images = sum(trainer.images_trained for trainer in open_slots)
        slots.trained(images_of_ended + images, len(open_slots))


def _next(put_back: deque[Trainer], queue: Iterator[Trainer]) -> Trainer | None:
    return put_back.popleft() if put_back else next(queue, None)


def _save_all(trainers: list[Trainer]) -> None:
    """Save what can be saved, then raise the first error that there was."""
    errors = []
    for trainer in trainers:
        try:
            with suppress(LeaseLost):
                trainer.save()
        except OSError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _advance(trainer: Trainer, *, alone: bool) -> Finished | None:
    try:
        if not trainer.advance():
            return Finished(trainer)
        trainer.save_if_due()
    except Exception as error:
        if affects_every_run(error):
            raise
        return Finished(trainer, _settled(trainer, error, alone))
    return None


def _settled(trainer: Trainer, error: Exception, alone: bool) -> Exception:
    """What broke a run, in the end: nothing of it is at work any more."""
    cause = classify(error)
    if cause is FailureClass.MEMORY and alone:
        short = memory.shortage(error, trainer.data.device)
        short.__cause__ = error
        error = short
    if cause is not FailureClass.NODE:  # after that nothing is sure to come to an end
        trainer.settle()
    for one in (error, error.__cause__):
        if one is not None:
            traceback.clear_frames(one.__traceback__)  # they hold the step's tensors
    return error
