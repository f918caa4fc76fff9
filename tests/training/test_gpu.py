"""On a GPU: CUDA graphs, streams and slots train as a single eager run does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from src.common.errors import NonFiniteLoss, Stopped
from src.config import RunConfig
from src.data import synthetic
from src.data.device_dataset import DeviceDataset
from src.training.concurrency import FixedConcurrency, concurrency_for
from src.training.trainer import Trainer, TrainerContext
from tests import fake_cuda
from tests.training.groups import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
IMITATED = torch.cuda.is_available() and torch.cuda.get_device_name() == fake_cuda.NAME


@pytest.fixture(scope="module")
def data() -> DeviceDataset:
    images = (200, 50) if IMITATED else (3000, 500)  # its steps run on the CPU
    return DeviceDataset.put(synthetic.generate(*images), torch.device("cuda"))


@pytest.fixture
def run() -> RunConfig:
    return RunConfig(
        base_dataset_path="synthetic",
        model_type="cifar10net_3" if IMITATED else "resnet",
        num_epochs=3,
        batch_size=40 if IMITATED else 128,
        learning_rate=0.001,
        data_augmentation=True,
    )


def losses(trainer: Trainer) -> list[float]:
    return [row[name] for row in trainer.state.rows for name in ("train_loss", "val_loss")]


def solo_losses(config: RunConfig, data: DeviceDataset) -> list[float]:
    [finished] = train(iter([Trainer(config, data).start()]))
    assert finished.error is None
    return losses(finished.trainer)


def tolerance(config: RunConfig, data: DeviceDataset) -> float:
    """Return a tolerance: twice the difference between two solo runs, at least 0.002."""
    if IMITATED:  # on a CPU two runs are equal
        return 0.002
    pairs = zip(solo_losses(config, data), solo_losses(config, data), strict=True)
    return max(0.002, 2 * max(abs(a - b) for a, b in pairs))


BY_MODEL: list[dict[str, Any]] = [
    {},
    {"model_type": "cnn", "dropout": 0.3},
    {"model_type": "cifar10net", "optimizer": "sgd"},
]
BY_SETTING: list[dict[str, Any]] = [
    {"scheduler": "onecycle", "precision": "float32"},
    {"model_type": "cifar10net_6", "ema": 0.99, "cutout": 8, "hue": 0.5, "contrast": 0.5},
]


@pytest.mark.parametrize("settings", BY_SETTING if IMITATED else [*BY_MODEL, *BY_SETTING])
def test_cuda_graphs_match_eager_training(
    run: RunConfig, data: DeviceDataset, settings: dict
) -> None:
    config = replace(run, **settings)
    if IMITATED:
        config = replace(config, model_type="cifar10net_7")  # has dropout
    eager = solo_losses(replace(config, cuda_graphs=False), data)
    assert solo_losses(config, data) == pytest.approx(eager, abs=tolerance(config, data))


def test_runs_in_slots_match_solo_runs(run: RunConfig, data: DeviceDataset) -> None:
    """Five runs in three slots, one of which diverges; the others train as if alone."""
    configs = [replace(run, seed=seed) for seed in range(4)]
    configs.insert(2, replace(run, learning_rate=1e30, precision="float32"))
    max_difference = tolerance(run, data)
    opened: list[Trainer] = []

    def queue() -> Iterator[Trainer]:
        for config in configs:
            opened.append(Trainer(config, data).start())
            yield opened[-1]

    finished_runs = list(train(queue(), concurrency=FixedConcurrency(3)))
    assert len(finished_runs) == len(opened) == 5
    for finished in finished_runs:
        if finished.trainer.config.learning_rate > 1:
            assert isinstance(finished.error, NonFiniteLoss)
        else:
            expected = solo_losses(finished.trainer.config, data)
            assert losses(finished.trainer) == pytest.approx(expected, abs=max_difference)


def test_stopped_group_resumes_to_solo_results(
    run: RunConfig, data: DeviceDataset, tmp_path: Path
) -> None:
    folders = [tmp_path / str(seed) for seed in range(2)]
    for folder in folders:
        folder.mkdir()

    def trainers() -> Iterator[Trainer]:
        for seed, folder in enumerate(folders):
            yield Trainer(
                replace(run, seed=seed), data, TrainerContext(checkpoint_dir=folder)
            ).start()

    steps, enough = iter(range(10_000)), 9 if IMITATED else 60

    def stop() -> bool:
        return next(steps) > enough

    with pytest.raises(Stopped):
        list(train(trainers(), concurrency=FixedConcurrency(2), stop=stop))
    resumed = []
    for finished in train(trainers(), concurrency=FixedConcurrency(2)):
        assert finished.trainer.resumed
        resumed.append(finished.trainer)
    assert len(resumed) == 2
    for trainer in resumed:
        expected = solo_losses(trainer.config, data)
        max_difference = tolerance(trainer.config, data)
        assert losses(trainer) == pytest.approx(expected, abs=max_difference)


@pytest.mark.skipif(IMITATED, reason="needs the speed of a real GPU")
def test_auto_concurrency_opens_several_slots_for_small_model(
    run: RunConfig, data: DeviceDataset
) -> None:
    small = replace(run, model_type="cifar10net", num_epochs=10_000)
    slots = concurrency_for(None, data.device)
    trainers = (Trainer(replace(small, seed=seed), data).start() for seed in range(64))
    with pytest.raises(Stopped):
        list(train(trainers, concurrency=slots, stop=lambda: slots.is_decided))
    assert slots.limit > 1  # a network this small leaves most of any GPU idle
