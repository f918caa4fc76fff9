"""Number of slots chosen on a simulated device with known speed and memory."""

import pytest
import torch

from src.training import concurrency
from src.training.concurrency import FixedConcurrency, MeasuredConcurrency, concurrency_for

GIB = 2**30


class SimulatedDevice:
    """Simulated device: `rate[slots]` images/s, and `each` bytes of `total` per slot."""

    def __init__(self, rate: dict[int, float], each: float = GIB, total: float = 80 * GIB) -> None:
        self.rate, self.each, self.total = rate, each, total
        self.now, self.images, self.open = 0.0, 0.0, 0

    def memory(self) -> tuple[int, int]:
        return int(self.total - self.open * self.each), int(self.total)

    def tried_limits(self, runs: int = 1000) -> list[int]:
        """Simulate training and return the slot limits that were tried, in order."""
        adaptive = MeasuredConcurrency(self.memory, lambda: self.now)
        tried = [adaptive.limit]
        for _ in range(1000):
            self.open = min(adaptive.limit, runs)
            self.now += 0.1
            self.images += 0.1 * self.rate.get(self.open, max(self.rate.values()))
            adaptive.record(int(self.images), self.open)
            if adaptive.limit != tried[-1]:
                tried.append(adaptive.limit)
        return tried


def test_slots_double_while_throughput_increases() -> None:
    rate = {1: 1000.0, 2: 1900.0, 4: 3500.0, 8: 6000.0, 16: 6100.0}
    assert SimulatedDevice(rate).tried_limits() == [1, 2, 4, 8, 16, 8]
    assert SimulatedDevice({1: 1000.0, 2: 1010.0}).tried_limits() == [1, 2, 1]


def test_slots_are_limited_by_device_memory() -> None:
    rate = {k: 1000.0 * k for k in range(1, 200)}
    assert SimulatedDevice(rate, each=7 * GIB).tried_limits() == [1, 2, 4, 8, 10]
    assert SimulatedDevice(rate, each=60 * GIB).tried_limits() == [1]
    assert SimulatedDevice(rate, total=200 * GIB).tried_limits()[-1] == 128 + 52


def test_slots_do_not_increase_without_runs_to_fill_them() -> None:
    rate = {k: 1000.0 * k for k in range(1, 200)}
    assert SimulatedDevice(rate).tried_limits(runs=3) == [1, 2, 4]


def test_out_of_memory_halves_slots() -> None:
    for adaptive in (FixedConcurrency(8), FixedConcurrency(1)):
        before = adaptive.limit
        adaptive.out_of_memory(before)
        assert adaptive.limit == max(1, before // 2)
    measured = MeasuredConcurrency(lambda: (GIB, GIB))
    measured.limit = 8
    measured.out_of_memory(8)
    assert measured.limit == 4
    measured.out_of_memory(3)
    assert measured.limit == 1, "the limit is halved from the number of open slots"


def test_auto_concurrency_is_one_on_cpu_and_measured_on_cuda(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert concurrency_for(None, torch.device("cpu")).limit == 1
    assert concurrency_for(6, torch.device("cpu")).limit == 6
    monkeypatch.setattr(concurrency.torch.cuda, "mem_get_info", lambda device: (GIB, GIB))
    assert isinstance(concurrency_for(None, torch.device("cuda")), MeasuredConcurrency)
    assert concurrency_for(6, torch.device("cuda")).limit == 6
