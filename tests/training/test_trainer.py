"""Trainer: determinism, resuming, validation, early stopping, checkpoints."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from src import models
from src.common.errors import NonFiniteLoss
from src.config import RunConfig
from src.data.device_dataset import DeviceDataset, normalization_table
from src.training.tracker import Row
from src.training.trainer import Trainer, TrainerContext, TrainingResult

TIMES = ("train_seconds", "images_per_second")


def with_fixed_format(config: RunConfig) -> RunConfig:
    """Fix the compute format, for comparisons with numbers from other machines or code."""
    return replace(config, precision="float32", memory_format="contiguous")


def finish(trainer: Trainer) -> TrainingResult:
    while trainer.advance():
        pass
    assert trainer.trained
    return trainer.trained


def reproducible_numbers(trained: TrainingResult) -> dict[str, Any]:
    return {name: value for name, value in trained.numbers.items() if name not in TIMES}


def assert_same(a: TrainingResult, b: TrainingResult) -> None:
    assert reproducible_numbers(a) == reproducible_numbers(b)
    assert a.weights.keys() == b.weights.keys() == {"best_val_acc", "best_val_loss", "terminal"}
    for kind, weights in a.weights.items():
        for name, tensor in weights.items():
            assert torch.equal(tensor, b.weights[kind][name]), (kind, name)
    assert torch.equal(a.test.logits, b.test.logits)
    assert torch.equal(a.test.features, b.test.features)


@pytest.mark.parametrize("settings", [{}, {"data_augmentation": True, "precision": "float32"}])
def test_training_is_deterministic_and_depends_on_seed(
    config: RunConfig, small_data: DeviceDataset, settings: dict
) -> None:
    run = replace(config, **settings)
    assert_same(finish(Trainer(run, small_data).start()), finish(Trainer(run, small_data).start()))
    other = finish(Trainer(replace(run, seed=1), small_data).start())
    assert reproducible_numbers(other) != reproducible_numbers(
        finish(Trainer(run, small_data).start())
    )


def test_resuming_after_any_step_gives_identical_result(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    """Stop and resume after every step, with augmentation and validation every other epoch."""
    run = replace(
        config, data_augmentation=True, max_images=60, batch_size=25, num_epochs=3, val_freq=2
    )
    run = replace(run, scheduler="onecycle")
    uninterrupted = finish(Trainer(run, small_data).start())
    trainer, stops = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start(), 0
    while trainer.advance():
        trainer.save()
        trainer, stops = (
            Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start(),
            stops + 1,
        )
        assert trainer.resumed
    assert stops == 3 * 3 + 3
    assert trainer.trained
    assert_same(trainer.trained, uninterrupted)
    assert [row["epoch"] for row in trainer.state.rows] == [1, 2, 3]


def test_dropout_state_is_restored_on_resume(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    tiny = replace(config, model_type="tinyvgg", hidden_units=4, num_epochs=1)
    run = replace(tiny, max_images=20, batch_size=5, dropout=0.5)
    uninterrupted = finish(Trainer(run, small_data).start())
    trainer = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    trainer.advance()
    trainer.advance()
    trainer.save()
    torch.manual_seed(1234)
    assert_same(
        finish(Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()),
        uninterrupted,
    )
    assert reproducible_numbers(
        finish(Trainer(replace(run, dropout=0.0), small_data).start())
    ) != reproducible_numbers(uninterrupted)


def test_checkpoint_of_another_run_is_ignored(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    trainer = Trainer(config, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    trainer.advance()
    trainer.save()
    assert Trainer(config, small_data, TrainerContext(checkpoint_dir=tmp_path)).start().resumed
    assert (
        not Trainer(replace(config, seed=9), small_data, TrainerContext(checkpoint_dir=tmp_path))
        .start()
        .resumed
    )


def test_training_matches_plain_pytorch_loop(config: RunConfig, small_data: DeviceDataset) -> None:
    """Compare a run with the same training written out in plain PyTorch."""
    run = with_fixed_format(replace(config, num_epochs=1, scheduler="none", max_images=200))
    trainer = Trainer(run, small_data).start()
    order = trainer.learner.order(0)
    finish(trainer)

    torch.manual_seed(run.seed)
    model = models.create("cifar10net")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.001, weight_decay=0.0001, amsgrad=True, fused=False, foreach=False
    )
    table = normalization_table("imagenet", small_data.dataset.train_images)
    losses = []
    for part in order.split(50):
        images, labels = small_data.train.batch(part, table)
        loss = cross_entropy(model(images.contiguous()), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert trainer.state.rows[0]["train_loss"] == pytest.approx(sum(losses) / 4, rel=1e-4)
    model.eval()
    images, labels = small_data.train.batch(trainer.learner.val_indices, table)
    expected = cross_entropy(model(images.contiguous()), labels).item()
    assert trainer.state.rows[0]["val_loss"] == pytest.approx(expected, rel=1e-3)


def test_losses_match_golden_values(config: RunConfig, small_data: DeviceDataset) -> None:
    """Golden losses: if they change, the results of all users change."""
    trainer = Trainer(
        with_fixed_format(replace(config, data_augmentation=True)), small_data
    ).start()
    finish(trainer)
    losses = [row[name] for row in trainer.state.rows for name in ("train_loss", "val_loss")]
    assert losses == pytest.approx(GOLDEN_LOSSES, rel=0.01)


GOLDEN_LOSSES = [2.3087308406829834, 2.2796671390533447, 2.1709423462549844, 2.248168706893921]


def test_validation_runs_every_val_freq_epochs_and_last(
    config: RunConfig, small_data: DeviceDataset
) -> None:
    run = replace(config, num_epochs=5, val_freq=2, max_images=100)
    trainer = Trainer(run, small_data).start()
    trained = finish(trainer)
    assert [row["epoch"] for row in trainer.state.rows if "val_loss" in row] == [2, 4, 5]
    assert trained.numbers["val_loss"] == trainer.state.rows[-1]["val_loss"]
    rarely_validated = Trainer(replace(run, num_epochs=1, val_freq=10), small_data).start()
    assert finish(rarely_validated).numbers["best_epoch"] == 1


def test_early_stopping_keeps_best_and_terminal_checkpoints(
    config: RunConfig, small_data: DeviceDataset
) -> None:
    run = replace(config, num_epochs=40, early_stopping_patience=2, learning_rate=0.02)
    run = with_fixed_format(run)
    trainer = Trainer(run, small_data).start()
    trained = finish(trainer)
    assert trained.numbers["stop_reason"] == "early stopping"
    losses = [row["val_loss"] for row in trainer.state.rows]
    accuracies = [row["val_accuracy"] for row in trainer.state.rows]
    lowest = losses.index(min(losses))
    assert len(losses) == lowest + 3 == trained.numbers["epochs_run"] < 40
    assert trained.numbers["best_epoch"] == accuracies.index(max(accuracies)) + 1
    assert trained.numbers["best_val_accuracy"] == max(accuracies)
    assert trainer.state.checkpoints["best_val_loss"].epoch == lowest + 1
    assert trainer.state.checkpoints["terminal"].epoch == len(losses)

    model = models.create("cifar10net").eval()
    for kind in ("best_val_loss", "terminal"):
        model.load_state_dict(trained.weights[kind])
        images, labels = small_data.test.batch(
            trainer.learner.test_indices, trainer.learner.normalization
        )
        with torch.no_grad():
            predictions = model(images.contiguous()).argmax(dim=1)
        accuracy = (predictions == labels).float().mean().item()
        assert trained.numbers[f"test_accuracy_{kind}"] == pytest.approx(accuracy)


def test_weights_of_one_epoch_are_kept_once(config: RunConfig, small_data: DeviceDataset) -> None:
    """A checkpoint, which holds each tensor once, is then a third as large."""
    trainer = Trainer(replace(config, num_epochs=1), small_data).start()
    finish(trainer)
    kept = trainer.state.checkpoints
    assert kept["terminal"] is kept["best_val_acc"] is kept["best_val_loss"]


def test_non_finite_loss_raises(config: RunConfig, small_data: DeviceDataset) -> None:
    trainer = Trainer(replace(config, learning_rate=1e30, precision="float32"), small_data).start()
    with pytest.raises(NonFiniteLoss, match=r"loss became (nan|inf) in epoch 1"):
        finish(trainer)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_adam_and_sgd_reduce_training_loss(
    config: RunConfig, small_data: DeviceDataset, optimizer: str
) -> None:
    rate = {"adam": 0.001, "sgd": 0.02}[optimizer]
    trainer = Trainer(replace(config, optimizer=optimizer, learning_rate=rate), small_data).start()
    finish(trainer)
    first, last = (trainer.state.rows[i]["train_loss"] for i in (0, -1))
    assert math.isfinite(last)
    assert last < first


def test_evaluation_covers_all_test_images_without_max_images(
    config: RunConfig, small_data: DeviceDataset
) -> None:
    trained = finish(Trainer(replace(config, max_images=0, num_epochs=1), small_data).start())
    assert trained.numbers["test_images"] == len(trained.test_labels) == 200
    assert trained.test.logits.shape == (200, 10)
    assert trained.test.features.shape == (200, 64)
    accuracy = (trained.test.logits.argmax(dim=1) == trained.test_labels).float().mean().item()
    assert trained.numbers["test_accuracy_best_val_acc"] == pytest.approx(accuracy)


def test_frequent_background_checkpoints_do_not_change_result(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    """Checkpoints after every step do not change the result of the run."""
    frequent = replace(config, checkpoint_minutes=0)
    trainer = Trainer(frequent, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    for _ in range(3):
        assert trainer.advance()
        trainer.save_if_due()
    trainer.synchronize()
    assert (tmp_path / "resume.pt").exists()
    resumed = Trainer(frequent, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    assert resumed.resumed
    assert_same(finish(resumed), finish(Trainer(config, small_data).start()))


def test_compiled_step_gives_identical_result(
    config: RunConfig, small_data: DeviceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use dynamo's capture with the eager backend, since compiling takes a minute."""
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: whole(model, backend="eager"))
    run = replace(config, max_images=100, num_epochs=1, memory_format="contiguous")
    assert_same(
        finish(Trainer(replace(run, compile=True), small_data).start()),
        finish(Trainer(run, small_data).start()),
    )


def test_run_stopped_while_pruned_finishes_without_pruner(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    run = replace(config, num_epochs=3, max_images=100)

    def prune_after_two_epochs(rows: Sequence[Row]) -> bool:
        return len(rows) == 2

    trainer = Trainer(
        run,
        small_data,
        TrainerContext(checkpoint_dir=tmp_path, should_prune=prune_after_two_epochs),
    ).start()
    while trainer.state.stop_reason is None:
        assert trainer.advance()
    trainer.save()
    pruned = Trainer(
        run,
        small_data,
        TrainerContext(checkpoint_dir=tmp_path, should_prune=prune_after_two_epochs),
    ).start()
    assert finish(pruned).numbers["stop_reason"] == "pruned"
    whole = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    assert_same(finish(whole), finish(Trainer(run, small_data).start()))


def test_trainer_that_is_not_started_does_not_advance(
    config: RunConfig, small_data: DeviceDataset
) -> None:
    trainer = Trainer(config, small_data)
    assert not trainer.is_started
    with pytest.raises(RuntimeError, match="not started"):
        trainer.advance()
