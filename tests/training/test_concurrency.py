"""How many slots are opened, on a device of which the test knows everything."""

import pytest
import torch

from src.training import concurrency
from src.training.concurrency import FixedConcurrency, MeasuredConcurrency, concurrency_for

GIB = 2**30


class Device:
    """Trains `rate(slots)` images a second; each slot takes `each` bytes of `total`."""

    def __init__(self, rate: dict[int, float], each: float = GIB, total: float = 80 * GIB) -> None:
        self.rate, self.each, self.total = rate, each, total
        self.now, self.images, self.open = 0.0, 0.0, 0

    def memory(self) -> tuple[int, int]:
        return int(self.total - self.open * self.each), int(self.total)

    def settled(self, runs: int = 1000) -> list[int]:
        """The limits that were tried, in order."""
        chosen = MeasuredConcurrency(self.memory, lambda: self.now)
        tried = [chosen.limit]
        for _ in range(1000):
            self.open = min(chosen.limit, runs)
            self.now += 0.1
            self.images += 0.1 * self.rate.get(self.open, max(self.rate.values()))
            chosen.record(int(self.images), self.open)
            if chosen.limit != tried[-1]:
                tried.append(chosen.limit)
        return tried


def test_slots_double_as_long_as_that_is_faster() -> None:
    rate = {1: 1000.0, 2: 1900.0, 4: 3500.0, 8: 6000.0, 16: 6100.0}
    assert Device(rate).settled() == [1, 2, 4, 8, 16, 8]
    assert Device({1: 1000.0, 2: 1010.0}).settled() == [1, 2, 1]


def test_memory_is_the_limit() -> None:
    rate = {k: 1000.0 * k for k in range(1, 200)}
    assert Device(rate, each=7 * GIB).settled() == [1, 2, 4, 8, 10]
    assert Device(rate, each=60 * GIB).settled() == [1]
    assert Device(rate, total=200 * GIB).settled()[-1] == 128 + 52


def test_slots_that_no_run_is_left_for_are_not_judged() -> None:
    rate = {k: 1000.0 * k for k in range(1, 200)}
    assert Device(rate).settled(runs=3) == [1, 2, 4]


def test_less_after_the_memory_ran_out() -> None:
    for chosen in (FixedConcurrency(8), FixedConcurrency(1)):
        before = chosen.limit
        chosen.out_of_memory(before)
        assert chosen.limit == max(1, before // 2)
    measured = MeasuredConcurrency(lambda: (GIB, GIB))
    measured.limit = 8
    measured.out_of_memory(8)
    assert measured.limit == 4
    measured.out_of_memory(3)
    assert measured.limit == 1, "no more than were open count"


def test_what_is_meant_by_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    assert concurrency_for(None, torch.device("cpu")).limit == 1
    assert concurrency_for(6, torch.device("cpu")).limit == 6
    monkeypatch.setattr(concurrency.torch.cuda, "mem_get_info", lambda device: (GIB, GIB))
    assert isinstance(concurrency_for(None, torch.device("cuda")), MeasuredConcurrency)
    assert concurrency_for(6, torch.device("cuda")).limit == 6
