"""Many runs on one device: slots that advance in turn and are refilled from a queue."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import torch

from src.errors import Stopped, Superseded, UserError
from src.training.slots import FixedSlots, Slots
from src.training.trainer import Trainer


@dataclass(frozen=True)
class Finished:
    """A run that left its slot: trained to the end, or broken by `error`."""

    trainer: Trainer
    error: Exception | None = None


def train(
    queue: Iterator[Trainer],
    *,
    slots: Slots | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Finished]:
    """Train every run of `queue`, as many at a time as `slots` allows (one), yielding each ended.

    A Trainer is taken from the queue when a slot is free for it. A run alone is a group of one,
    and a run in a group gives the result that it gives alone. Raises Stopped, with every open
    run saved, once stop() is true.
    """
    slots = slots or FixedSlots(1)
    open_slots: list[Trainer] = []
    images_of_ended = 0
    while True:
        if stop():
            _save_all(open_slots)
            raise Stopped
        open_slots += islice(queue, max(0, slots.limit - len(open_slots)))
        if not open_slots:
            return
        for trainer in tuple(open_slots):
            finished = _advance(trainer)
            if finished:
                open_slots.remove(trainer)
                images_of_ended += trainer.images_trained
                if isinstance(finished.error, torch.OutOfMemoryError):
                    slots.out_of_memory()
                yield finished
            if finished or stop():
                break
        images = sum(trainer.images_trained for trainer in open_slots)
        slots.trained(images_of_ended + images, len(open_slots))


def _save_all(trainers: list[Trainer]) -> None:
    """Save what can be saved, then raise the first error that there was."""
    errors = []
    for trainer in trainers:
        try:
            with suppress(Superseded):
                trainer.save()
        except OSError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _advance(trainer: Trainer) -> Finished | None:
    try:
        if not trainer.advance():
            return Finished(trainer)
        trainer.save_if_due()
    except (UserError, OSError):
        raise  # not this run's own trouble: it would meet the next one as well
    except Exception as error:  # noqa: BLE001  whatever broke this run, the others go on
        trainer.settle()
        return Finished(trainer, error)
    return None
