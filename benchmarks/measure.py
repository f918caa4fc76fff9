"""Measurement: arms in turn, peak speed of a device, FLOPs of a model, memory."""

import multiprocessing
import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Protocol

import torch
from torch.utils.flop_counter import FlopCounterMode

from src import models
from src.common.errors import class_and_message
from src.config import RunConfig
from src.cpu import allocator
from src.training.device import has_fast_bfloat16

_LEAD_STEPS, _LEAD_SECONDS = 8, 1.0
_MALLOC_DEFAULTS = {  # https://man7.org/linux/man-pages/man3/mallopt.3.html
    -4: 65_536,  # M_MMAP_MAX
    -3: 32 * 2**20,  # M_MMAP_THRESHOLD, its dynamic value after such a block was freed
    -1: 64 * 2**20,  # M_TRIM_THRESHOLD, then twice that value
    -2: 128 * 2**10,  # M_TOP_PAD
}
_CEILING_SIDES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192, 16384)}


@dataclass(frozen=True)
class Duration:
    """Length of a measuring interval: at least `seconds` and at least `steps`."""

    seconds: float
    steps: int = 1


@dataclass(frozen=True)
class Interval:
    """One measuring interval: images, seconds and steps."""

    images: int
    seconds: float
    steps: int

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


class Arm(Protocol):
    """One way of training."""

    def measure(self, duration: Duration) -> Interval:
        """Train for a duration and return what was measured."""

    def loss(self) -> float:
        """Return a recent training loss."""

    def close(self) -> None:
        """Release all resources."""


class StepwiseArm(ABC):
    """An arm that trains step by step."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter):
        self.device, self.clock = device, clock
        self._pace = float("inf")  # seconds per step in the last interval

    @abstractmethod
    def step(self) -> int:
        """Do one training step and return its number of images."""

    def measure(self, duration: Duration) -> Interval:
        """Train for a duration, after some lead steps that are not counted."""
        reset_malloc_parameters()
        for _ in range(lead_steps(duration, self._pace)):
            self.step()
        synchronize(self.device)
        images = steps = 0
        started = self.clock()
        while steps < duration.steps or self.clock() - started < duration.seconds:
            images += self.step()
            steps += 1
        synchronize(self.device)
        seconds = self.clock() - started
        self._pace = seconds / steps
        return Interval(images, seconds, steps)


def reset_malloc_parameters() -> None:
    """Reset glibc's malloc parameters to their defaults, as they are after large blocks were freed.

    Our engine makes glibc keep freed memory in the whole process, which would speed up other arms.
    """
    for parameter, value in _MALLOC_DEFAULTS.items():
        allocator.call_libc("mallopt", parameter, value)


def lead_steps(duration: Duration, pace: float) -> int:
    """Return the number of uncounted steps before an interval, for steps of `pace` seconds.

    They use up batches that an idle loader has prefetched. There are none if steps are slow, since
    prefetched batches do not matter then, and none before a warm-up, which has no least time.
    """
    if not duration.seconds:
        return 0
    return _LEAD_STEPS if pace <= 0 else min(_LEAD_STEPS, int(_LEAD_SECONDS / pace))


@dataclass
class Timing:
    """The intervals of one arm, or the reason of its failure."""

    intervals: list[Interval] = field(default_factory=list)
    failure: str | None = None

    @property
    def rate(self) -> float | None:
        """Median images per second; None without measurements."""
        return median(interval.rate for interval in self.intervals) if self._is_valid else None

    @property
    def spread(self) -> float | None:
        """Fastest minus slowest interval, relative to the median."""
        if not self._is_valid:
            return None
        rates = [interval.rate for interval in self.intervals]
        return (max(rates) - min(rates)) / median(rates)

    def spells(self) -> list[dict[str, float]]:
        """The intervals as JSON holds them."""
        return [asdict(interval) for interval in self.intervals]

    @property
    def _is_valid(self) -> bool:
        return bool(self.intervals) and self.failure is None


def alternate(
    arms: Mapping[str, Arm],
    rounds: int,
    duration: Duration,
    warm_up: Mapping[str, int],
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Timing]:
    """Measure arms in turn, `rounds` times, after `warm_up` steps of each (1 unless named).

    An arm that fails is not measured again, and its Timing has the reason.
    """
    timings = {name: Timing() for name in arms}
    for number in range(rounds + 1):
        for name, arm in arms.items():
            if timings[name].failure:
                continue
            wait_for_workers()
            try:
                if not number:
                    arm.measure(Duration(0, warm_up.get(name, 1)))
                    continue
                interval = arm.measure(duration)
            except Exception as error:  # noqa: BLE001  the other arms are still measured
                timings[name].failure = reason(error)
                say(f"{name}: failed: {timings[name].failure}")
                continue
            timings[name].intervals.append(interval)
            say(f"{name}: round {number}/{rounds}: {interval.rate:,.1f} images/s")
    return timings


def reason(error: BaseException) -> str:
    """Return the cause of an error in one short line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    return class_and_message(error)[:200]


def synchronize(device: torch.device) -> None:
    """Wait until all work queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def wait_for_workers(longest: float = 5.0) -> None:
    """Wait until DataLoader workers have filled their queues and are idle."""
    end = time.monotonic() + longest
    before = -1
    while time.monotonic() < end:
        now = sum(_cpu_ticks(child.pid) for child in multiprocessing.active_children())
        if now == before:
            return
        before = now
        time.sleep(0.05 if now else 0)


def _cpu_ticks(pid: int | None) -> int:
    """Return user and system time of a process in ticks of 10 ms; 0 if it has ended."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(after_name[11]) + int(after_name[12])


def ceiling(device: torch.device, dtype: torch.dtype, seconds: float = 6.0) -> float:
    """Return GFLOP/s of the fastest square matrix product, an upper bound for the device."""
    sides = _CEILING_SIDES[device.type]
    return max(_product_rate(side, device, dtype, seconds / len(sides)) for side in sides)


def _product_rate(side: int, device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds_taken: list[float] = []
    a @ b
    end = time.perf_counter() + seconds
    while len(seconds_taken) < 3 or time.perf_counter() < end:
        synchronize(device)
        started = time.perf_counter()
        a @ b
        synchronize(device)
        seconds_taken.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds_taken) / 1e9


def flops_per_image(config: RunConfig) -> float:
    """Return the floating-point operations of forward and backward per image.

    They are counted for the published network of src.models, also if a faster arm does fewer
    operations, so that the share of the ceiling refers to the same work.
    """
    images = 2
    with torch.device("meta"):
        model = models.create(config.model_type, **models.options_of(config))
        batch = torch.zeros(images, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        model(batch).sum().backward()
    return counter.get_total_flops() / images


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if it is native, else float32."""
    return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32


def reset_peak_memory() -> None:
    """Reset the peak that `peak_memory` returns."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def resident_memory() -> int:
    """Return the resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def ratio(value: float | None, base: float | None) -> float | None:
    """Return value / base, or None if one is missing or base is 0."""
    return value / base if value is not None and base else None
