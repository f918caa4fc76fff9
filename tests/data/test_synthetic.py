"""The synthetic data set is deterministic, fast to generate, learnable and not trivial."""

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from src.config import RunConfig
from src.data import load, synthetic
from src.data.device_dataset import DeviceDataset
from src.training.trainer import Trainer
from tests.training.groups import train


def test_synthetic_data_has_cifar10_layout_and_is_fast() -> None:
    started = time.perf_counter()
    dataset = load("synthetic")
    assert time.perf_counter() - started < 15
    assert dataset.train_images.shape == (10_000, 32, 32, 3)
    assert dataset.train_images.dtype == np.uint8
    assert dataset.test_images.shape == (2_000, 32, 32, 3)
    assert np.bincount(dataset.train_labels).tolist() == [1_000] * 10
    assert dataset.last_batch == 2_000


def test_stand_in_is_drawn_once_and_read_from_the_cache_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    drawn = load("synthetic", "mnist")
    monkeypatch.setattr(synthetic, "_draw", lambda *_: pytest.fail("drawn again"))
    kept = load("synthetic", "mnist")
    assert (kept.digest, kept.spec) == (drawn.digest, drawn.spec)
    assert np.array_equal(kept.test_images, drawn.test_images)


def test_synthetic_data_depends_on_seed_only() -> None:
    first, second = synthetic.generate(train=100, test=10), synthetic.generate(train=100, test=10)
    other = synthetic.generate(seed=1, train=100, test=10)
    assert np.array_equal(first.train_images, second.train_images)
    assert not np.array_equal(first.train_images, other.train_images)
    digest = hashlib.sha256(first.train_labels.tobytes()).hexdigest()
    assert digest == hashlib.sha256(second.train_labels.tobytes()).hexdigest()


def test_small_model_reaches_60_to_92_percent_in_two_epochs() -> None:
    data = DeviceDataset.put(load("synthetic"), torch.device("cpu"))
    config = RunConfig(
        base_dataset_path="synthetic",
        model_type="cifar10net",
        num_epochs=2,
        batch_size=64,
        learning_rate=0.001,
    )
    [finished] = train(iter([Trainer(config, data).start()]))
    assert finished.trainer.trained
    accuracy = finished.trainer.trained.numbers["test_accuracy_best_val_acc"]
    assert 0.6 < accuracy < 0.92, accuracy
