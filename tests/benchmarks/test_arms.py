"""The arms train, on the same pixels, and leave nothing behind."""

import math
import multiprocessing
from dataclasses import replace

import pytest
import torch

from benchmarks import lightning_arm, workload
from benchmarks.conventional import Conventional, Pictures
from benchmarks.measure import Amount, Arm
from benchmarks.ours import Ours
from src.common.errors import UserError
from src.config import RunConfig
from src.data.dataset import Dataset
from src.data.device_dataset import DeviceDataset, normalization_table

CPU = torch.device("cpu")
BATCH = 60  # divides the training images of the small data


@pytest.fixture
def endless() -> RunConfig:
    return workload.run_config("cifar10net", BATCH, learning_rate=0.001)


def train(arm: Arm) -> None:
    """A few steps, whose loss is a number, twice; then nothing is left running."""
    first = arm.spell(Amount(0, 3))
    second = arm.spell(Amount(0.05, 2))
    assert math.isfinite(arm.loss())
    assert first.images == 3 * BATCH
    assert second.images == second.steps * BATCH
    assert second.steps >= 2
    assert second.seconds >= 0.05
    arm.close()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_conventional(small_dataset: Dataset, endless: RunConfig, workers: int) -> None:
    pictures = (small_dataset.train_images, small_dataset.train_labels)
    train(Conventional(endless, *pictures, CPU, workers))


def test_conventional_begins_anew(small_dataset: Dataset, endless: RunConfig) -> None:
    pictures = (small_dataset.train_images[:100], small_dataset.train_labels[:100])
    arm = Conventional(endless, *pictures, CPU, workers=0)
    assert [arm.step() for _ in range(5)] == [BATCH] * 5
    assert arm.seen == 5 * BATCH
    assert 0 <= arm.correct <= arm.seen
    assert math.isfinite(arm.loss_sum)


@pytest.mark.parametrize("slots", [1, 3])
def test_ours(small_data: DeviceDataset, endless: RunConfig, slots: int) -> None:
    arm = Ours([replace(endless, seed=seed) for seed in range(slots)], small_data)
    trainers = set(arm.trainers)
    train(arm)
    assert len(trainers) == slots


def test_slots_take_turns(small_data: DeviceDataset, endless: RunConfig) -> None:
    arm = Ours([replace(endless, seed=seed) for seed in range(3)], small_data)
    slots = list(arm.trainers)
    for _ in range(4):
        assert arm.step() == BATCH
    assert [slot.state.step for slot in slots] == [2, 1, 1]
    arm.spell(Amount(0, 2))
    assert [slot.state.step for slot in slots] == [2, 2, 2]


def test_no_validation_falls_into_a_spell(small_data: DeviceDataset, endless: RunConfig) -> None:
    arm = Ours([endless], small_data)
    [trainer] = arm.trainers
    steps = len(trainer.learner.bounds) + 3
    assert arm.spell(Amount(0, steps)).images == 480 + 3 * BATCH
    assert trainer.state.epoch == 1
    assert "val_loss" not in trainer.state.rows[0]


def test_lightning(small_dataset: Dataset, endless: RunConfig) -> None:
    assert lightning_arm.installed()
    pictures = (small_dataset.train_images, small_dataset.train_labels)
    train(lightning_arm.LightningArm(endless, *pictures, CPU, workers=0))


def test_lightning_avoids_emulated_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype, name in ((torch.bfloat16, "bf16-mixed"), (torch.float32, "32-true")):
        monkeypatch.setattr(lightning_arm, "fast_dtype", lambda *_, dtype=dtype: dtype)
        assert lightning_arm.precision(CPU) == name
        assert lightning_arm.label(CPU) == f"lightning, {name}"


def test_all_arms_see_the_same_pixels_and_weights(
    small_dataset: Dataset, small_data: DeviceDataset, endless: RunConfig
) -> None:
    plain = replace(endless, data_augmentation=False)
    pictures = Pictures(small_dataset.train_images, small_dataset.train_labels, plain)
    table = normalization_table("imagenet", small_dataset.train_images)
    batch, labels = small_data.train.batch(torch.arange(20), table)
    for i in range(20):
        theirs, label = pictures[i]
        assert torch.equal(theirs, batch[i])
        assert label == labels[i]
    theirs_built = Conventional(plain, *(pictures.images, pictures.labels), CPU, 0).model
    [trainer] = Ours([plain], small_data).trainers
    for name, tensor in theirs_built.state_dict().items():
        assert torch.equal(tensor, trainer.learner.model.state_dict()[name])


def test_without_augmentation_the_loss_is_the_same(
    small_dataset: Dataset, small_data: DeviceDataset, endless: RunConfig
) -> None:
    """The first step on all training images at once, in whatever order: the same mean loss."""
    count = 480  # the training part of 600
    whole = replace(endless, data_augmentation=False, batch_size=count)
    whole = replace(whole, precision="float32", memory_format="contiguous")
    pictures = (small_dataset.train_images[:count], small_dataset.train_labels[:count])
    theirs = Conventional(whole, *pictures, CPU, workers=0)
    ours = Ours([whole], small_data)
    assert theirs.step() == ours.step() == count
    assert theirs.loss() == pytest.approx(ours.loss(), rel=1e-4)


def test_the_stand_in_is_repeated() -> None:
    dataset = workload.images(12_000)
    assert len(dataset.train_images) == len(dataset.train_labels) == 12_000
    assert dataset.last_batch == 2400
    assert (dataset.train_images[:2000] == dataset.train_images[10_000:]).all()


def test_models_are_known() -> None:
    assert {"cnn", "resnet", "vit", "cifar10net"} <= set(workload.known_models(None))
    assert workload.known_models(["vit"]) == ["vit"]
    with pytest.raises(UserError, match="--models 'vitt'"):
        workload.known_models(["vitt"])


def test_settings_that_do_not_exist_are_left_out() -> None:
    config = workload.run_config("cifar10net", 32, seed=4, no_such_setting=1)
    assert (config.seed, config.batch_size, config.data_augmentation) == (4, 32, True)
