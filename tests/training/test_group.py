"""Slots: refilled from the queue, and blind to each other."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from src.config import RunConfig
from src.data.resident import ResidentData
from src.errors import Stopped
from src.training import group
from src.training.slots import FixedSlots
from src.training.trainer import NonFiniteLoss, Trainer


@pytest.fixture
def configs(config: RunConfig) -> list[RunConfig]:
    """Runs of different length; the third diverges."""
    short = replace(config, max_images=100, data_augmentation=True)
    return [
        short,
        replace(short, model_type="cnn", num_epochs=1, max_images=50),
        replace(short, learning_rate=1e30, precision="float32"),
        replace(short, seed=3, num_epochs=3),
        replace(short, batch_size=33),
    ]


def test_neighbours_change_nothing(configs: list[RunConfig], small_data: ResidentData) -> None:
    alone = {}
    for config in configs:
        [finished] = group.train(iter([Trainer(config, small_data)]))
        alone[config.id] = finished
    opened: list[Trainer] = []

    def queue() -> Iterator[Trainer]:
        for config in configs:
            opened.append(Trainer(config, small_data))
            yield opened[-1]

    ended = 0
    for finished in group.train(queue(), slots=FixedSlots(3)):
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
    assert ended == len(configs)


def test_a_stop_saves_every_open_run(
    config: RunConfig, small_data: ResidentData, tmp_path: Path
) -> None:
    folders = [tmp_path / str(i) for i in range(3)]
    trainers = []
    for seed, folder in enumerate(folders):
        folder.mkdir()
        trainers.append(Trainer(replace(config, seed=seed), small_data, folder=folder))
    steps = iter(range(100))
    with pytest.raises(Stopped):
        list(group.train(iter(trainers), slots=FixedSlots(2), stop=lambda: next(steps) > 9))
    assert [len(list(folder.iterdir())) for folder in folders] == [1, 1, 0]


def test_a_stop_before_the_start_takes_nothing(small_data: ResidentData) -> None:
    def queue() -> Iterator[Trainer]:
        raise AssertionError("nothing was to be opened")
        yield

    with pytest.raises(Stopped):
        list(group.train(queue(), stop=lambda: True))


def test_a_full_disk_is_nobodys_own_trouble(
    config: RunConfig, small_data: ResidentData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Trainer) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Trainer, "save_if_due", full)
    with pytest.raises(OSError, match="No space"):
        list(group.train(iter([Trainer(config, small_data)])))


def test_a_run_without_memory_ends_alone_and_fewer_go_on(
    config: RunConfig, small_data: ResidentData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers = [Trainer(replace(config, seed=seed), small_data) for seed in range(3)]

    def starved() -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainers[1], "advance", starved)
    slots = FixedSlots(2)
    ended = list(group.train(iter(trainers), slots=slots))
    assert [type(finished.error).__name__ for finished in ended] == [
        "OutOfMemoryError",
        "NoneType",
        "NoneType",
    ]
    assert slots.limit == 1
