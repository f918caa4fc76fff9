"""Cached features of a frozen backbone give the same training as computing them each step."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torchvision.models import resnet18

from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.models.classifier import Classifier
from src.training import device, feature_cache
from src.training.learner import Learner
from src.training.trainer import Trainer

SHORT = RunConfig(
    base_dataset_path="synthetic",
    model_type="resnet18_transfer",
    scheduler="none",
    learning_rate=0.01,
    num_epochs=2,
    batch_size=8,
    max_images=16,
    precision="float32",
    memory_format="contiguous",
)


@pytest.fixture(scope="module")
def transfer(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    file = tmp_path_factory.mktemp("weights") / "resnet18.pt"
    torch.manual_seed(1)
    torch.save(resnet18(weights=None).state_dict(), file)
    return replace(SHORT, weights=str(file))


def trained(config: RunConfig, data: DeviceDataset) -> Trainer:
    trainer = Trainer(config, data).start()
    while trainer.advance():
        pass
    return trainer


def test_training_with_cached_features_matches_training_without(
    transfer: RunConfig, small_data: DeviceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = trained(transfer, small_data)
    monkeypatch.setattr(Learner, "prepare", lambda self: iter(()))
    slow = trained(transfer, small_data)
    assert fast.trained
    assert slow.trained
    for row, uncached_row in zip(fast.state.rows, slow.state.rows, strict=True):
        assert row["train_loss"] == pytest.approx(uncached_row["train_loss"], rel=1e-4)
        assert row["val_loss"] == pytest.approx(uncached_row["val_loss"], rel=1e-4)
    before = torch.load(transfer.weights, weights_only=True)
    for name, tensor in fast.trained.weights["terminal"].items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, before[name.removeprefix("backbone.")]), name


def test_features_on_disk_are_reused_by_second_run(
    transfer: RunConfig,
    small_data: DeviceDataset,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = trained(transfer, small_data)
    assert len(list((tmp_path / "cifar10-sweep" / "features").glob("*.npy"))) == 2

    def recompute(*_: object) -> None:
        raise AssertionError("the features were computed again")

    monkeypatch.setattr(feature_cache, "features_of", recompute)
    assert trained(replace(transfer, learning_rate=0.02), small_data).state.rows != first.state.rows


@pytest.mark.parametrize(
    ("module", "changed"), [(device, "_cpu_model"), (feature_cache, "kernels_digest")]
)
def test_features_of_another_kind_of_device_or_of_other_kernels_are_not_used(
    module: ModuleType,
    changed: str,
    transfer: RunConfig,
    small_data: DeviceDataset,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("one", "another"):
        monkeypatch.setattr(module, changed, lambda name=name: name)
        trainer = Trainer(transfer, small_data).start()
        for _ in trainer.learner.prepare():
            pass
    assert len(list((tmp_path / "cifar10-sweep" / "features").glob("*.npy"))) == 4


def test_features_are_not_cached_with_augmentation(
    transfer: RunConfig, small_data: DeviceDataset
) -> None:
    trainer = Trainer(replace(transfer, data_augmentation=True, max_images=8), small_data).start()
    next(trainer.learner.prepare(), None)
    assert trainer.learner.train_images is small_data.train


def test_cached_features_batch_has_features_and_labels() -> None:
    features = torch.arange(6.0).view(3, 2)
    cached = feature_cache.CachedFeatures(features, torch.tensor([0, 2, 0, 1, 0]), torch.arange(5))
    batch, labels = cached.batch(torch.tensor([3, 1]), torch.empty(0))
    assert batch.tolist() == [[2, 3], [4, 5]]
    assert labels.tolist() == [3, 1]
    head: Classifier = feature_cache.HeadOnly(torch.nn.Linear(2, 10))
    assert head(batch).shape == (2, 10)
