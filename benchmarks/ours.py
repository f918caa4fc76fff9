"""Our way: data on the device, and slots that the group advances in turn."""

import time
from collections.abc import Callable, Sequence

from benchmarks.measure import Amount, Spell, lead_steps, synchronize
from src.config import RunConfig
from src.cpu.allocator import keep_freed_memory
from src.data.device_dataset import DeviceDataset
from src.training.concurrency import FixedConcurrency
from src.training.group import TrainingGroup
from src.training.precision import ComputeFormat
from src.training.tracker import RunningMetrics, Tracker
from src.training.trainer import Trainer, TrainerContext


class Count:
    """Steps and images of all slots together."""

    def __init__(self) -> None:
        self.steps = self.images = 0


class Counting(Tracker):
    """A slot's tracker, which counts what the slot does."""

    def __init__(self, count: Count) -> None:
        self.count, self.done = count, 0

    def step(self, epoch: int, done: int, total: int, running: RunningMetrics) -> None:
        self.count.steps += 1
        self.count.images += done - (self.done if done > self.done else 0)
        self.done = done


class Ours:
    """One slot for each config, on the device of the data.

    The group is stopped after a spell and goes on with the same slots in the next one.
    """

    def __init__(self, configs: Sequence[RunConfig], data: DeviceDataset) -> None:
        self.count, self.device = Count(), data.device
        self.trainers = [
            Trainer(config, data, TrainerContext(tracker=Counting(self.count))).start()
            for config in configs
        ]
        self.group = TrainingGroup(FixedConcurrency(len(configs)))
        for trainer in self.trainers:
            self.group.add(trainer)
        self._pace = float("inf")

    @property
    def compute_format(self) -> ComputeFormat:
        """That of all slots."""
        return self.trainers[0].compute_format

    def step(self) -> int:
        """A training step of the slot whose turn it is; how many images it took."""
        before = self.count.images
        self._advance(lambda steps, seconds: steps >= 1)
        return self.count.images - before

    def spell(self, amount: Amount) -> Spell:
        """Train for an amount of time, after a few steps of each slot that are not counted."""
        if self.device.type == "cpu":
            keep_freed_memory()  # as where a run begins: another arm may have undone it
        lead = lead_steps(amount, self._pace * len(self.trainers)) * len(self.trainers)
        if lead:
            self._advance(lambda steps, seconds: steps >= lead)
        synchronize(self.device)
        images, steps = self.count.images, self.count.steps
        started = time.perf_counter()
        self._advance(self._enough(amount))
        synchronize(self.device)
        seconds = time.perf_counter() - started
        spell = Spell(self.count.images - images, seconds, self.count.steps - steps)
        self._pace = spell.seconds / spell.steps
        return spell

    def _enough(self, amount: Amount) -> Callable[[int, float], bool]:
        """When a spell is over; by steps on a GPU, whose queue is longer than a spell."""
        if self.device.type != "cuda":
            return lambda steps, seconds: steps >= amount.steps and seconds >= amount.seconds
        wanted = max(amount.steps, int(amount.seconds / self._pace))
        return lambda steps, seconds: steps >= wanted

    def loss(self) -> float:
        """Mean of the epoch so far, of the worst slot."""
        return max(t.learner.metrics.read().sums().mean_loss for t in self.trainers)

    def close(self) -> None:
        """Forget the slots."""
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
            for finished in self.group.advance(stop):
                raise RuntimeError("a run ended within a measurement") from finished.error
