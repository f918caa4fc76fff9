"""How many runs train at a time on a device: fixed, or tuned while they train."""

import time
from collections.abc import Callable
from typing import Protocol

import torch

_WINDOW_SECONDS = 3.0  # length of a throughput measurement
_SETTLING_SECONDS = 3.0  # wait after opening runs: their first steps are slow
_WORTH_IT = 1.05  # minimum gain in images per second from doubling
_SPARE = 0.1  # share of memory left for evaluations and other processes


class Concurrency(Protocol):
    """The number of runs that train at a time."""

    @property
    def limit(self) -> int:
        """The number of runs that may be open now."""

    @property
    def is_decided(self) -> bool:
        """Whether tuning has ended."""

    def record(self, images: int, slots: int) -> None:
        """Record the images trained so far by all runs, while `slots` runs are open."""

    def out_of_memory(self, slots: int) -> None:
        """Lower the limit to half of the `slots` runs that were open, at least one."""


class FixedConcurrency:
    """A fixed number of runs, lowered only when memory runs out."""

    is_decided = True

    def __init__(self, count: int) -> None:
        self.limit = count

    def record(self, images: int, slots: int) -> None:
        """Nothing to tune."""

    def out_of_memory(self, slots: int) -> None:
        self.limit = max(1, min(self.limit, slots) // 2)


class MeasuredConcurrency:
    """Doubles the number of runs while that trains more images per second and memory lasts.

    memory: returns free and total bytes of the device.
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
        self.is_decided = False
        self._opened = clock()
        self._window: tuple[float, int] | None = None

    def record(self, images: int, slots: int) -> None:
        if (
            self.is_decided or slots < self.limit
        ):  # runs are ending or being opened: not a fair measurement
            self._window, self._opened = None, self._clock()
            return
        now = self._clock()
        if self._window is None:
            if now - self._opened >= _SETTLING_SECONDS:
                self._window = (now, images)
            return
        started, before = self._window
        if now - started >= _WINDOW_SECONDS:
            self._adjust_limit((images - before) / (now - started))
            self._window, self._opened = None, now

    def out_of_memory(self, slots: int) -> None:
        self.limit = max(1, min(self.limit, slots) // 2)
        self.is_decided = True

    def _adjust_limit(self, rate: float) -> None:
        if rate < self._rate_before * _WORTH_IT:
            self.limit = max(1, self.limit // 2)
            self.is_decided = True
            return
        self._rate_before = rate
        free, total = self._memory()
        each = max(1, (self._free_before - free) / self.limit)
        room = int((free - _SPARE * total) / each)
        if room < 1:
            self.is_decided = True
        self.limit += max(0, min(self.limit, room))


def concurrency_for(count: int | None, device: torch.device) -> Concurrency:
    """`count` runs at a time. None: measured on a GPU, one on a CPU, whose cores one run fills."""
    if count is None and device.type == "cuda":
        return MeasuredConcurrency(lambda: torch.cuda.mem_get_info(device))
    return FixedConcurrency(count or 1)
