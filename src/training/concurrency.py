"""How many runs at a time are worth having on a device, found while they train."""

import time
from collections.abc import Callable
from typing import Protocol

import torch

_WINDOW_SECONDS = 3.0  # of training at a number of slots before it is judged
_SETTLING_SECONDS = 3.0  # after slots were opened: the first steps are slow
_WORTH_IT = 1.05  # twice the slots must train so many times the images
_SPARE = 0.1  # of the device's memory, for evaluations and whatever else is on it


class Concurrency(Protocol):
    """How many runs train at a time."""

    @property
    def limit(self) -> int:
        """As many as may be open now."""

    @property
    def settled(self) -> bool:
        """Whether `limit` stays as it is, as far as anybody knows."""

    def record(self, images: int, slots: int) -> None:
        """Hear how many images were trained so far by all runs, and that `slots` are open."""

    def out_of_memory(self, slots: int) -> None:
        """Have half of the `slots` that were open from now on, or one."""


class FixedConcurrency:
    """As many as was asked for."""

    settled = True

    def __init__(self, count: int) -> None:
        self.limit = count

    def record(self, images: int, slots: int) -> None:
        """Nothing is to be found out."""

    def out_of_memory(self, slots: int) -> None:
        self.limit = max(1, min(self.limit, slots) // 2)


class MeasuredConcurrency:
    """Twice as many as before, as long as that trains more images a second and memory lasts.

    memory: free and total bytes of the device.
    """

    def __init__(
        self,
        memory: Callable[[], tuple[int, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = 1
        self._memory, self._clock = memory, clock
        self._free_before = memory()[0]
        self._rate_before = 0.0
        self.settled = False
        self._opened = clock()
        self._window: tuple[float, int] | None = None

    def record(self, images: int, slots: int) -> None:
        if self.settled or slots < self.limit:  # not filled: runs are ending, or still opened
            self._window, self._opened = None, self._clock()
            return
        now = self._clock()
        if self._window is None:
            if now - self._opened >= _SETTLING_SECONDS:
                self._window = (now, images)
            return
        started, before = self._window
        if now - started >= _WINDOW_SECONDS:
            self._judge((images - before) / (now - started))
            self._window, self._opened = None, now

    def out_of_memory(self, slots: int) -> None:
        self.limit = max(1, min(self.limit, slots) // 2)
        self.settled = True

    def _judge(self, rate: float) -> None:
        if rate < self._rate_before * _WORTH_IT:
            self.limit = max(1, self.limit // 2)
            self.settled = True
            return
        self._rate_before = rate
        free, total = self._memory()
        each = max(1, (self._free_before - free) / self.limit)
        room = int((free - _SPARE * total) / each)
        if room < 1:
            self.settled = True
        self.limit += max(0, min(self.limit, room))


def concurrency_for(count: int | None, device: torch.device) -> Concurrency:
    """`count` slots; None: what is measured on a GPU, one on a CPU, whose cores one run fills."""
    if count is None and device.type == "cuda":
        return MeasuredConcurrency(lambda: torch.cuda.mem_get_info(device))
    return FixedConcurrency(count or 1)
