"""Exponential moving average of the weights, and label smoothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.training.ema import ExponentialMovingAverage, update_share
from src.training.trainer import Trainer, TrainerContext


def test_ema_matches_direct_computation() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    ema = ExponentialMovingAverage(model)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(5):
        for tensor in model.state_dict().values():
            tensor.add_(step + 1)
        ema.update(torch.tensor(0.1))
        for name, tensor in model.state_dict().items():
            is_counter = not tensor.is_floating_point()
            expected[name] = tensor if is_counter else 0.9 * expected[name] + 0.1 * tensor
    for name, tensor in ema.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name])


def test_update_share_decreases_during_warm_up() -> None:
    assert update_share(0.999, 0) == pytest.approx(0.9)
    assert update_share(0.999, 90) == pytest.approx(9 / 100)
    assert update_share(0.999, 10**6) == pytest.approx(0.001)


def test_averaged_weights_are_evaluated_saved_and_resumed(
    small_data: DeviceDataset, config: RunConfig, tmp_path: Path
) -> None:
    run = replace(config, ema=0.99)
    uninterrupted = Trainer(run, small_data).start()
    while uninterrupted.advance():
        pass
    learner, trained = uninterrupted.learner, uninterrupted.trained
    assert trained
    assert learner.ema
    expected = trained.weights["terminal"]
    assert not torch.equal(expected["head.weight"], learner.model.state_dict()["head.weight"])

    stopped = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    for _ in range(9):  # up to the second epoch
        stopped.advance()
    stopped.save()
    resumed = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    assert resumed.resumed
    while resumed.advance():
        pass
    assert resumed.trained
    for name, tensor in resumed.trained.weights["terminal"].items():
        assert torch.equal(tensor, expected[name]), name
    assert resumed.state.rows[-1]["val_loss"] == uninterrupted.state.rows[-1]["val_loss"]


@pytest.mark.parametrize("decay", [0.0, 0.99])
def test_pruned_run_that_is_resumed_without_pruning_equals_one_never_pruned(
    small_data: DeviceDataset, config: RunConfig, tmp_path: Path, decay: float
) -> None:
    run = replace(config, ema=decay, num_epochs=3)
    expected = Trainer(run, small_data).start()
    while expected.advance():
        pass

    context = TrainerContext(checkpoint_dir=tmp_path, should_prune=lambda rows: len(rows) == 2)
    pruned = Trainer(run, small_data, context).start()
    while pruned.advance():
        pass
    assert pruned.state.stop_reason == "pruned"
    pruned.save()  # of the evaluations at its end
    resumed = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    while resumed.advance():
        pass
    assert resumed.state.rows[-1]["train_loss"] == expected.state.rows[-1]["train_loss"]
    assert resumed.trained
    assert expected.trained
    for name, tensor in resumed.trained.weights["terminal"].items():
        assert torch.equal(tensor, expected.trained.weights["terminal"][name]), name


def test_label_smoothing_increases_training_loss(
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
