"""Groups of runs in slots: independence, stopping, out-of-memory handling."""

import gc
import re
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from src.common.errors import NonFiniteLoss, OutOfMemory, Stopped
from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.training import group
from src.training.concurrency import FixedConcurrency
from src.training.learner import Learner
from src.training.tracker import Row, Tracker
from src.training.trainer import Trainer, TrainerContext
from tests.training.groups import train


@pytest.fixture
def configs(config: RunConfig) -> list[RunConfig]:
    """Return runs of different length, of which the third diverges."""
    short = replace(config, max_images=100, data_augmentation=True)
    return [
        short,
        replace(short, model_type="cnn", num_epochs=1, max_images=50),
        replace(short, learning_rate=1e30, precision="float32"),
        replace(short, seed=3, num_epochs=3),
        replace(short, batch_size=33),
    ]


def test_runs_in_slots_give_same_weights_as_alone(
    configs: list[RunConfig], small_data: DeviceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {}
    for config in configs:
        [finished] = train(iter([Trainer(config, small_data).start()]))
        alone[config.id] = finished
    opened: list[Trainer] = []

    def queue() -> Iterator[Trainer]:
        for config in configs:
            opened.append(Trainer(config, small_data).start())
            yield opened[-1]

    ended = 0
    memory_returns: list[int] = []
    monkeypatch.setattr(group, "return_freed_memory", lambda: memory_returns.append(ended))
    for finished in train(queue(), concurrency=FixedConcurrency(3)):
        ended += 1
        assert len(opened) <= 3 + ended
        solo = alone[finished.trainer.config.id]
        if solo.error:
            assert isinstance(finished.error, NonFiniteLoss)
            continue
        assert finished.error is None
        assert solo.trainer.trained
        assert finished.trainer.trained
        for kind, weights in solo.trainer.trained.weights.items():
            for name, tensor in weights.items():
                assert torch.equal(tensor, finished.trainer.trained.weights[kind][name])
    assert ended == len(memory_returns) == len(configs)


def test_stop_saves_checkpoint_of_every_open_run(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    folders = [tmp_path / str(i) for i in range(3)]
    trainers = []
    for seed, folder in enumerate(folders):
        folder.mkdir()
        trainers.append(
            Trainer(
                replace(config, seed=seed), small_data, TrainerContext(checkpoint_dir=folder)
            ).start()
        )
    steps = iter(range(100))
    with pytest.raises(Stopped):
        list(train(iter(trainers), concurrency=FixedConcurrency(2), stop=lambda: next(steps) > 9))
    assert [len(list(folder.iterdir())) for folder in folders] == [1, 1, 0]


def test_stop_before_start_opens_no_run(small_data: DeviceDataset) -> None:
    def queue() -> Iterator[Trainer]:
        raise AssertionError("no run may be opened")
        yield

    with pytest.raises(Stopped):
        list(train(queue(), stop=lambda: True))


def test_full_disk_raises_instead_of_failing_the_run(
    config: RunConfig, small_data: DeviceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Trainer) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Trainer, "save_if_due", full)
    with pytest.raises(OSError, match="No space"):
        list(train(iter([Trainer(config, small_data).start()])))


class OutOfMemoryInjector:
    """Make runs with certain seeds run out of memory beside others, or always."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *seeds: int, always: bool = False) -> None:
        self.open: set[Trainer] = set()
        self.starts: list[tuple[int, int]] = []
        """Seed and number of open runs, for each start of a run."""
        real_start, real_stop, step = Trainer.start, Trainer.stop, Learner.train_batch
        seeds_of = {}

        def started(trainer: Trainer) -> Trainer:
            real_start(trainer)
            self.open.add(trainer)
            seeds_of[trainer.learner] = trainer.config.seed
            self.starts.append((trainer.config.seed, len(self.open)))
            return trainer

        def stopped(trainer: Trainer) -> None:
            self.open.discard(trainer)
            real_stop(trainer)

        def train_or_run_out_of_memory(learner: Learner, epoch: int, number: int) -> None:
            if seeds_of[learner] in seeds and number == 3 and (always or len(self.open) > 1):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
            step(learner, epoch, number)

        monkeypatch.setattr(Trainer, "start", started)
        monkeypatch.setattr(Trainer, "stop", stopped)
        monkeypatch.setattr(Learner, "train_batch", train_or_run_out_of_memory)


def unstarted_trainers(config: RunConfig, data: DeviceDataset, count: int) -> Iterator[Trainer]:
    runs = (replace(config, seed=seed) for seed in range(count))
    return (Trainer(run, data) for run in runs)


def test_out_of_memory_run_is_put_back_with_fewer_slots(
    config: RunConfig, small_data: DeviceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = train(unstarted_trainers(config, small_data, 4))
    expected = {done.trainer.config.seed: done.trainer.state.rows for done in alone}
    injector = OutOfMemoryInjector(monkeypatch, 1, 3)
    slots = FixedConcurrency(4)
    ended = {
        done.trainer.config.seed: (done.error, done.trainer.state.rows)
        for done in train(unstarted_trainers(config, small_data, 4), concurrency=slots)
    }
    assert slots.limit == 1
    assert [error for error, _ in ended.values()] == [None] * 4
    assert injector.starts[:4] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert injector.starts[4:] == [(1, 1), (3, 1)], "restarted, with fewer runs beside them"
    for seed, (_, rows) in ended.items():
        for row, other in zip(rows, expected[seed], strict=True):
            assert {**row, "seconds": 0} == {**other, "seconds": 0}


def test_run_put_back_resumes_from_its_checkpoint(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    OutOfMemoryInjector(monkeypatch, 1)
    frequent_checkpoints = replace(config, checkpoint_minutes=0)
    resumed_at: list[tuple[int, int]] = []
    (tmp_path / "1").mkdir()

    class Resumed(Tracker):
        def resumed(self, epochs: int, steps: int) -> None:
            resumed_at.append((epochs, steps))

    trainers = [
        Trainer(frequent_checkpoints, small_data),
        Trainer(
            replace(frequent_checkpoints, seed=1),
            small_data,
            TrainerContext(
                checkpoint_dir=tmp_path / "1",
                tracker=Resumed(),
            ),
        ),
    ]
    ended = list(train(iter(trainers), concurrency=FixedConcurrency(2)))
    assert [done.error for done in ended] == [None, None]
    [(epochs, steps)] = resumed_at
    assert (epochs, steps) > (0, 0)


def test_out_of_memory_alone_fails_with_needed_amount(
    config: RunConfig, small_data: DeviceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    injector = OutOfMemoryInjector(monkeypatch, 1, always=True)
    ended = {
        done.trainer.config.seed: done.error
        for done in train(
            unstarted_trainers(config, small_data, 3), concurrency=FixedConcurrency(2)
        )
    }
    assert [ended[0], ended[2]] == [None, None]
    assert isinstance(ended[1], OutOfMemory)
    assert re.search(r"asked for 1.1 GB more, about [\d,.]+ GB in all", str(ended[1]))
    assert isinstance(ended[1].__cause__, torch.OutOfMemoryError)
    assert injector.starts.count((1, 1)) == 1, "retried alone only once"
    assert not injector.open


def test_memory_of_run_is_freed_before_next_run_starts(
    config: RunConfig, small_data: DeviceDataset
) -> None:
    learners: list[weakref.ref[Learner]] = []
    alive: list[int] = []

    def queue() -> Iterator[Trainer]:
        for seed in range(3):
            rate = 1e30 if seed == 0 else config.learning_rate
            run = replace(config, seed=seed, learning_rate=rate, precision="float32")
            gc.collect()
            alive.append(sum(learner() is not None for learner in learners))
            trainer = Trainer(run, small_data).start()
            learners.append(weakref.ref(trainer.learner))
            yield trainer

    errors = [done.error for done in train(queue())]
    assert isinstance(errors[0], NonFiniteLoss)
    assert alive == [0, 0, 0]


def test_node_failure_ends_run_without_waiting_for_device(
    config: RunConfig, small_data: DeviceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(self: object, *_: object) -> None:
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")

    monkeypatch.setattr(Learner, "train_batch", dead)
    monkeypatch.setattr(Trainer, "synchronize", dead)
    [finished] = train(unstarted_trainers(config, small_data, 1))
    assert "ECC" in str(finished.error)


def test_run_that_waits_for_pruner_does_not_hold_up_others(
    config: RunConfig, small_data: DeviceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pruner answers once the other run has ended; while both wait, no core is kept busy."""
    short = replace(config, max_images=100, num_epochs=2)
    answer, sleeps = threading.Event(), []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        answer.set()

    def should_prune(rows: Sequence[Row]) -> bool:
        assert answer.wait(60)
        return len(rows) == 1

    monkeypatch.setattr(group.time, "sleep", sleep)
    waiting = Trainer(short, small_data, TrainerContext(should_prune=should_prune))
    other = Trainer(replace(short, seed=1), small_data)
    queue = iter([waiting, other])
    ended = [finished.trainer for finished in train(queue, concurrency=FixedConcurrency(2))]
    assert ended == [other, waiting]
    assert waiting.state.stop_reason == "pruned"
    assert (waiting.state.epoch, other.state.epoch) == (1, 2)
    assert sleeps[0] <= 0.001
