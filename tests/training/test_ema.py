"""The moving average of a model's weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.training.ema import ExponentialMovingAverage, update_share
from src.training.trainer import Trainer, TrainerContext


def test_it_is_the_exponential_moving_average() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    ema = ExponentialMovingAverage(model)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(5):
        for tensor in model.state_dict().values():
            tensor.add_(step + 1)
        ema.update(torch.tensor(0.1))
        for name, tensor in model.state_dict().items():
            whole = not tensor.is_floating_point()
            expected[name] = tensor if whole else 0.9 * expected[name] + 0.1 * tensor
    for name, tensor in ema.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name])


def test_it_leaves_the_random_weights_in_long_strides() -> None:
    assert update_share(0.999, 0) == pytest.approx(0.9)
    assert update_share(0.999, 90) == pytest.approx(9 / 100)
    assert update_share(0.999, 10**6) == pytest.approx(0.001)


def test_the_average_is_what_is_evaluated_and_kept(
    small_data: DeviceDataset, config: RunConfig, tmp_path: Path
) -> None:
    run = replace(config, ema=0.99)
    whole = Trainer(run, small_data).start()
    while whole.advance():
        pass
    learner, trained = whole.learner, whole.trained
    assert trained
    assert learner.ema
    kept = trained.weights["terminal"]
    assert not torch.equal(kept["head.weight"], learner.model.state_dict()["head.weight"])

    stopped = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    for _ in range(9):  # into the second epoch
        stopped.advance()
    stopped.save()
    resumed = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    assert resumed.resumed
    while resumed.advance():
        pass
    assert resumed.trained
    for name, tensor in resumed.trained.weights["terminal"].items():
        assert torch.equal(tensor, kept[name]), name
    assert resumed.state.rows[-1]["val_loss"] == whole.state.rows[-1]["val_loss"]


def test_smoothed_labels_train_on_another_loss(
    small_data: DeviceDataset, config: RunConfig
) -> None:
    losses = []
    for smoothing in (0.0, 0.2):
        trainer = Trainer(
            replace(config, label_smoothing=smoothing, num_epochs=1), small_data
        ).start()
        while trainer.advance():
            pass
        losses.append(trainer.state.rows[0]["train_loss"])
    assert losses[1] > losses[0]
