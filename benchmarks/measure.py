"""Measuring: arms in turn, the ceiling of a device, the work of a model, memory."""

import multiprocessing
import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Protocol

import torch
from torch.utils.flop_counter import FlopCounterMode

from src import models
from src.config import RunConfig
from src.cpu import allocator
from src.training.device import has_fast_bfloat16

_LEAD_STEPS, _LEAD_SECONDS = 8, 1.0
_USUAL = {  # https://man7.org/linux/man-pages/man3/mallopt.3.html
    -4: 65_536,  # M_MMAP_MAX
    -3: 32 * 2**20,  # M_MMAP_THRESHOLD, where it stands once such a block was freed
    -1: 64 * 2**20,  # M_TRIM_THRESHOLD, which is then twice that
    -2: 128 * 2**10,  # M_TOP_PAD
}
_CEILING_SIDES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192, 16384)}


@dataclass(frozen=True)
class Amount:
    """How long a spell lasts: at least so many seconds, and at least so many steps."""

    seconds: float
    steps: int = 1


@dataclass(frozen=True)
class Spell:
    """What an arm did in one go."""

    images: int
    seconds: float
    steps: int

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


class Arm(Protocol):
    """One way of training."""

    def spell(self, amount: Amount) -> Spell:
        """Train for an amount of time."""

    def loss(self) -> float:
        """A recent training loss."""

    def close(self) -> None:
        """Give everything back."""


class Stepped(ABC):
    """An arm that is advanced step by step."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter):
        self.device, self.clock = device, clock
        self._pace = float("inf")  # seconds a step, as last measured

    @abstractmethod
    def step(self) -> int:
        """Do one training step; how many images it took."""

    def spell(self, amount: Amount) -> Spell:
        """Train for an amount of time, after a few steps that are not counted."""
        allocate_as_usual()
        for _ in range(lead_steps(amount, self._pace)):
            self.step()
        synchronize(self.device)
        images = steps = 0
        started = self.clock()
        while steps < amount.steps or self.clock() - started < amount.seconds:
            images += self.step()
            steps += 1
        synchronize(self.device)
        seconds = self.clock() - started
        self._pace = seconds / steps
        return Spell(images, seconds, steps)


def allocate_as_usual() -> None:
    """Let glibc do as it does for a script that says nothing, once large blocks were freed.

    Our engine has it keep what is freed, for the whole process: the other arms shall not profit.
    """
    for parameter, value in _USUAL.items():
        allocator.call_libc("mallopt", parameter, value)


def lead_steps(amount: Amount, pace: float) -> int:
    """Steps before a spell that are not counted, where one takes `pace` seconds.

    They bring a loader that has rested back to its pace. Where a step takes long, what a loader
    can have prepared does not matter, and there are none; nor before a warm-up, of no time.
    """
    if not amount.seconds:
        return 0
    return _LEAD_STEPS if pace <= 0 else min(_LEAD_STEPS, int(_LEAD_SECONDS / pace))


@dataclass
class Timing:
    """The spells of one arm, or what broke it."""

    spells: list[Spell] = field(default_factory=list)
    failure: str | None = None

    @property
    def rate(self) -> float | None:
        """Median images a second; None where there is nothing to take it of."""
        return median(spell.rate for spell in self.spells) if self._counts else None

    @property
    def spread(self) -> float | None:
        """Fastest minus slowest spell, as a share of the median."""
        if not self._counts:
            return None
        rates = [spell.rate for spell in self.spells]
        return (max(rates) - min(rates)) / median(rates)

    @property
    def _counts(self) -> bool:
        return bool(self.spells) and self.failure is None


def alternate(
    arms: Mapping[str, Arm],
    rounds: int,
    amount: Amount,
    warm_up: Mapping[str, int],
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Timing]:
    """Measure arms in turn, `rounds` times, after `warm_up` steps of each (1 unless named).

    An arm that breaks is left out from then on, and its Timing says why.
    """
    timings = {name: Timing() for name in arms}
    for number in range(rounds + 1):
        for name, arm in arms.items():
            if timings[name].failure:
                continue
            wait_for_workers()
            try:
                if not number:
                    arm.spell(Amount(0, warm_up.get(name, 1)))
                    continue
                spell = arm.spell(amount)
            except Exception as error:  # noqa: BLE001  whatever broke it, the others go on
                timings[name].failure = reason(error)
                say(f"{name}: failed: {timings[name].failure}")
                continue
            timings[name].spells.append(spell)
            say(f"{name}: round {number}/{rounds}: {spell.rate:,.1f} images/s")
    return timings


def reason(error: BaseException) -> str:
    """What broke something, in one short line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    line = " ".join(str(error).split())
    return f"{type(error).__name__}: {line}"[:200] if line else type(error).__name__


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def wait_for_workers(longest: float = 5.0) -> None:
    """Wait until the loaders' processes have filled their queues and stand still."""
    end = time.monotonic() + longest
    before = -1
    while time.monotonic() < end:
        now = sum(_cpu_ticks(child.pid) for child in multiprocessing.active_children())
        if now == before:
            return
        before = now
        time.sleep(0.05 if now else 0)


def _cpu_ticks(pid: int | None) -> int:
    """User and system time of a process, in ticks of 10 ms; 0 where it is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(after_name[11]) + int(after_name[12])


def ceiling(device: torch.device, dtype: torch.dtype, seconds: float = 6.0) -> float:
    """GFLOP/s of the fastest square matrix product: what nothing on the device can exceed."""
    sides = _CEILING_SIDES[device.type]
    return max(_product_rate(side, device, dtype, seconds / len(sides)) for side in sides)


def _product_rate(side: int, device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    taken: list[float] = []
    a @ b
    end = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        synchronize(device)
        started = time.perf_counter()
        a @ b
        synchronize(device)
        taken.append(time.perf_counter() - started)
    return 2 * side**3 / min(taken) / 1e9


def flops_per_image(config: RunConfig) -> float:
    """Floating-point operations of forward and backward, per image.

    Counted on the plain model of src.models, the full network as published, whatever a faster
    arm computes in its place: a share of the ceiling is of the work that was asked for.
    """
    images = 2
    with torch.device("meta"):
        model = models.create(config.model_type, **models.options_of(config))
        batch = torch.zeros(images, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        model(batch).sum().backward()
    return counter.get_total_flops() / images


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where it is native, else float32."""
    return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32


def forget_peak() -> None:
    """Let `peak_memory` count from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The most memory this process has had, in bytes."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def memory_now() -> int:
    """What of this process is in memory, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def ratio(value: float | None, base: float | None) -> float | None:
    """value / base, where there are both."""
    return value / base if value is not None and base else None
