"""Our engine: data on the device, and slots that a group advances in turn."""

import time
from collections.abc import Callable, Sequence

from benchmarks.measure import Duration, Interval, lead_steps, synchronize
from src.config import RunConfig
from src.cpu.allocator import keep_freed_memory
from src.data.device_dataset import DeviceDataset
from src.training.compute_format import ComputeFormat
from src.training.concurrency import FixedConcurrency
from src.training.group import TrainingGroup
from src.training.tracker import RunningMetrics, Tracker
from src.training.trainer import Trainer, TrainerContext


class Counts:
    """Counts of steps and images over all slots."""

    def __init__(self) -> None:
        self.steps = self.images = 0


class CountingTracker(Tracker):
    """Tracker of a slot that counts its steps and images."""

    def __init__(self, count: Counts) -> None:
        self.count, self.done = count, 0

    def step(self, epoch: int, done: int, total: int, running: RunningMetrics) -> None:
        self.count.steps += 1
        self.count.images += done - (self.done if done > self.done else 0)
        self.done = done


class Ours:
    """One slot per config, on the device of the data.

    The group stops after each measuring interval and continues with the same slots in the next one.
    """

    def __init__(self, configs: Sequence[RunConfig], data: DeviceDataset) -> None:
        self.count, self.device = Counts(), data.device
        self.trainers = [
            Trainer(config, data, TrainerContext(tracker=CountingTracker(self.count))).start()
            for config in configs
        ]
        self.group = TrainingGroup(FixedConcurrency(len(configs)))
        for trainer in self.trainers:
            self.group.add(trainer)
        self._pace = float("inf")

    @property
    def compute_format(self) -> ComputeFormat:
        """The compute format of all slots."""
        return self.trainers[0].compute_format

    def step(self) -> int:
        """Do a training step of the next slot and return its number of images."""
        before = self.count.images
        self._advance(lambda steps, seconds: steps >= 1)
        return self.count.images - before

    def measure(self, duration: Duration) -> Interval:
        """Train for a duration, after some lead steps of each slot that are not counted."""
        if self.device.type == "cpu":
            keep_freed_memory()  # as at the start of a run, since other arms reset it
        lead = lead_steps(duration, self._pace * len(self.trainers)) * len(self.trainers)
        if lead:
            self._advance(lambda steps, seconds: steps >= lead)
        synchronize(self.device)
        images, steps = self.count.images, self.count.steps
        started = time.perf_counter()
        self._advance(self._enough(duration))
        synchronize(self.device)
        seconds = time.perf_counter() - started
        interval = Interval(self.count.images - images, seconds, self.count.steps - steps)
        self._pace = interval.seconds / interval.steps
        return interval

    def _enough(self, duration: Duration) -> Callable[[int, float], bool]:
        """Return the end condition of an interval; on a GPU in steps, since it is asynchronous."""
        if self.device.type != "cuda":
            return lambda steps, seconds: steps >= duration.steps and seconds >= duration.seconds
        target_steps = max(duration.steps, int(duration.seconds / self._pace))
        return lambda steps, seconds: steps >= target_steps

    def loss(self) -> float:
        """Return the highest mean loss of the current epoch over all slots."""
        return max(t.learner.metrics.read().totals().mean_loss for t in self.trainers)

    def close(self) -> None:
        """Stop and drop all slots."""
        for trainer in self.trainers:
            trainer.stop()
        self.trainers.clear()
        self.group = TrainingGroup()

    def _advance(self, enough: Callable[[int, float], bool]) -> None:
        """Advance the slots in turn until enough(steps, seconds)."""
        before, started = self.count.steps, time.perf_counter()

        def stop() -> bool:
            return enough(self.count.steps - before, time.perf_counter() - started)

        while not stop():
            if finished := self.group.advance(stop):
                raise RuntimeError("a run ended within a measurement") from finished.error
