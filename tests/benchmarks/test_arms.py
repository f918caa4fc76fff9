"""Benchmark arms: same images and weights, counting of steps, release of resources."""

import math
import multiprocessing
from dataclasses import replace

import pytest
import torch

from benchmarks import lightning_arm, workload
from benchmarks.conventional import Conventional, ImageDataset
from benchmarks.measure import Arm, Duration
from benchmarks.ours import Ours
from src.common.errors import UserError
from src.config import RunConfig
from src.data.dataset import Dataset
from src.data.device_dataset import DeviceDataset, normalization_table

CPU = torch.device("cpu")
BATCH = 60  # divides the number of training images


@pytest.fixture
def endless() -> RunConfig:
    return workload.run_config("cifar10net", BATCH, learning_rate=0.001)


def check_arm(arm: Arm) -> None:
    """Measure an arm twice, check counts and loss, and that no process is left after close."""
    first = arm.measure(Duration(0, 3))
    second = arm.measure(Duration(0.05, 2))
    assert math.isfinite(arm.loss())
    assert first.images == 3 * BATCH
    assert second.images == second.steps * BATCH
    assert second.steps >= 2
    assert second.seconds >= 0.05
    arm.close()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_conventional_arm_trains_and_stops_workers(
    small_dataset: Dataset, endless: RunConfig, workers: int
) -> None:
    images = (small_dataset.train_images, small_dataset.train_labels)
    check_arm(Conventional(endless, *images, CPU, workers))


def test_conventional_arm_repeats_epochs(small_dataset: Dataset, endless: RunConfig) -> None:
    images = (small_dataset.train_images[:100], small_dataset.train_labels[:100])
    arm = Conventional(endless, *images, CPU, workers=0)
    assert [arm.step() for _ in range(5)] == [BATCH] * 5
    assert arm.seen == 5 * BATCH
    assert 0 <= arm.correct <= arm.seen
    assert math.isfinite(arm.loss_sum)


@pytest.mark.parametrize("slots", [1, 3])
def test_our_arm_trains_with_slots(
    small_data: DeviceDataset, endless: RunConfig, slots: int
) -> None:
    arm = Ours([replace(endless, seed=seed) for seed in range(slots)], small_data)
    trainers = set(arm.trainers)
    check_arm(arm)
    assert len(trainers) == slots


def test_our_arm_advances_slots_in_turn(small_data: DeviceDataset, endless: RunConfig) -> None:
    arm = Ours([replace(endless, seed=seed) for seed in range(3)], small_data)
    slots = list(arm.trainers)
    for _ in range(4):
        assert arm.step() == BATCH
    assert [slot.state.step for slot in slots] == [2, 1, 1]
    arm.measure(Duration(0, 2))
    assert [slot.state.step for slot in slots] == [2, 2, 2]


def test_our_arm_does_not_validate_during_measurement(
    small_data: DeviceDataset, endless: RunConfig
) -> None:
    arm = Ours([endless], small_data)
    [trainer] = arm.trainers
    steps = len(trainer.learner.bounds) + 3
    assert arm.measure(Duration(0, steps)).images == 480 + 3 * BATCH
    assert trainer.state.epoch == 1
    assert "val_loss" not in trainer.state.rows[0]


def test_lightning_arm_trains_and_stops_workers(small_dataset: Dataset, endless: RunConfig) -> None:
    assert lightning_arm.installed()
    images = (small_dataset.train_images, small_dataset.train_labels)
    check_arm(lightning_arm.LightningArm(endless, *images, CPU, workers=0))


def test_lightning_precision_depends_on_native_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype, name in ((torch.bfloat16, "bf16-mixed"), (torch.float32, "32-true")):
        monkeypatch.setattr(lightning_arm, "fast_dtype", lambda *_, dtype=dtype: dtype)
        assert lightning_arm.precision(CPU) == name
        assert lightning_arm.label(CPU) == f"lightning, {name}"


def test_arms_have_same_pixels_and_initial_weights(
    small_dataset: Dataset, small_data: DeviceDataset, endless: RunConfig
) -> None:
    plain = replace(endless, data_augmentation=False)
    images = ImageDataset(small_dataset.train_images, small_dataset.train_labels, plain)
    table = normalization_table("imagenet", small_dataset.train_images)
    batch, labels = small_data.train.batch(torch.arange(20), table)
    for i in range(20):
        conventional, label = images[i]
        assert torch.equal(conventional, batch[i])
        assert label == labels[i]
    conventional_model = Conventional(plain, *(images.images, images.labels), CPU, 0).model
    [trainer] = Ours([plain], small_data).trainers
    for name, tensor in conventional_model.state_dict().items():
        assert torch.equal(tensor, trainer.learner.model.state_dict()[name])


def test_arms_have_same_loss_without_augmentation(
    small_dataset: Dataset, small_data: DeviceDataset, endless: RunConfig
) -> None:
    """Conventional and our arm have the same loss in a first step on all training images."""
    count = 480  # the training part of 600
    full_batch = replace(endless, data_augmentation=False, batch_size=count)
    full_batch = replace(full_batch, precision="float32", memory_format="contiguous")
    images = (small_dataset.train_images[:count], small_dataset.train_labels[:count])
    conventional = Conventional(full_batch, *images, CPU, workers=0)
    engine = Ours([full_batch], small_data)
    assert conventional.step() == engine.step() == count
    assert conventional.loss() == pytest.approx(engine.loss(), rel=1e-4)


def test_synthetic_images_are_repeated_to_requested_number() -> None:
    dataset = workload.images(12_000)
    assert len(dataset.train_images) == len(dataset.train_labels) == 12_000
    assert dataset.last_batch == 2400
    assert (dataset.train_images[:2000] == dataset.train_images[10_000:]).all()


def test_known_models_rejects_unknown_name() -> None:
    assert {"cnn", "resnet", "vit", "cifar10net"} <= set(workload.known_models(None))
    assert workload.known_models(["vit"]) == ["vit"]
    with pytest.raises(UserError, match="--models 'vitt'"):
        workload.known_models(["vitt"])


def test_run_config_ignores_unknown_settings() -> None:
    config = workload.run_config("cifar10net", 32, seed=4, no_such_setting=1)
    assert (config.seed, config.batch_size, config.data_augmentation) == (4, 32, True)
