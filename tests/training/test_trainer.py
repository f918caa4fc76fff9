"""One run: what it learns, what it keeps, and that it can be stopped anywhere."""

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


def plain(config: RunConfig) -> RunConfig:
    """For numbers that are compared with others than this machine's own: auto is what is fast."""
    return replace(config, precision="float32", memory_format="contiguous")


def finish(trainer: Trainer) -> TrainingResult:
    while trainer.advance():
        pass
    assert trainer.trained
    return trainer.trained


def numbers(trained: TrainingResult) -> dict[str, Any]:
    return {name: value for name, value in trained.numbers.items() if name not in TIMES}


def assert_same(a: TrainingResult, b: TrainingResult) -> None:
    assert numbers(a) == numbers(b)
    assert a.weights.keys() == b.weights.keys() == {"best_val_acc", "best_val_loss", "terminal"}
    for kind, weights in a.weights.items():
        for name, tensor in weights.items():
            assert torch.equal(tensor, b.weights[kind][name]), (kind, name)
    assert torch.equal(a.test.logits, b.test.logits)
    assert torch.equal(a.test.features, b.test.features)


@pytest.mark.parametrize("settings", [{}, {"data_augmentation": True, "precision": "float32"}])
def test_twice_is_the_same(config: RunConfig, small_data: DeviceDataset, settings: dict) -> None:
    run = replace(config, **settings)
    assert_same(finish(Trainer(run, small_data).start()), finish(Trainer(run, small_data).start()))
    other = finish(Trainer(replace(run, seed=1), small_data).start())
    assert numbers(other) != numbers(finish(Trainer(run, small_data).start()))


def test_stopped_anywhere_and_resumed_is_the_same(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    """With augmentation and rare validation, after every unit of work."""
    run = replace(
        config, data_augmentation=True, max_images=60, batch_size=25, num_epochs=3, val_freq=2
    )
    run = replace(run, scheduler="onecycle")
    undisturbed = finish(Trainer(run, small_data).start())
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
    assert_same(trainer.trained, undisturbed)
    assert [row["epoch"] for row in trainer.state.rows] == [1, 2, 3]


def test_dropout_goes_on_where_it_stopped(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    tiny = replace(config, model_type="tinyvgg", hidden_units=4, num_epochs=1)
    run = replace(tiny, max_images=20, batch_size=5, dropout=0.5)
    undisturbed = finish(Trainer(run, small_data).start())
    trainer = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    trainer.advance()
    trainer.advance()
    trainer.save()
    torch.manual_seed(1234)
    assert_same(
        finish(Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()),
        undisturbed,
    )
    assert numbers(finish(Trainer(replace(run, dropout=0.0), small_data).start())) != numbers(
        undisturbed
    )


def test_a_checkpoint_of_another_run_is_ignored(
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


def test_it_is_the_plain_training_loop(config: RunConfig, small_data: DeviceDataset) -> None:
    """The golden twin: the same run written out in ten lines of plain torch."""
    run = plain(replace(config, num_epochs=1, scheduler="none", max_images=200))
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
    images, labels = small_data.train.batch(trainer.learner.val_samples, table)
    expected = cross_entropy(model(images.contiguous()), labels).item()
    assert trainer.state.rows[0]["val_loss"] == pytest.approx(expected, rel=1e-3)


def test_golden_losses(config: RunConfig, small_data: DeviceDataset) -> None:
    """Guards the training path: a change of these is a change of everybody's results."""
    trainer = Trainer(plain(replace(config, data_augmentation=True)), small_data).start()
    finish(trainer)
    losses = [row[name] for row in trainer.state.rows for name in ("train_loss", "val_loss")]
    assert losses == pytest.approx(GOLDEN_LOSSES, rel=0.01)


GOLDEN_LOSSES = [2.3087308406829834, 2.2796671390533447, 2.1709423462549844, 2.248168706893921]


def test_validation_every_f_epochs_and_at_the_end(
    config: RunConfig, small_data: DeviceDataset
) -> None:
    run = replace(config, num_epochs=5, val_freq=2, max_images=100)
    trainer = Trainer(run, small_data).start()
    trained = finish(trainer)
    assert [row["epoch"] for row in trainer.state.rows if "val_loss" in row] == [2, 4, 5]
    assert trained.numbers["val_loss"] == trainer.state.rows[-1]["val_loss"]
    rare = Trainer(replace(run, num_epochs=1, val_freq=10), small_data).start()
    assert finish(rare).numbers["best_epoch"] == 1


def test_early_stopping_and_the_three_checkpoints(
    config: RunConfig, small_data: DeviceDataset
) -> None:
    run = replace(config, num_epochs=40, early_stopping_patience=2, learning_rate=0.02)
    run = plain(run)
    trainer = Trainer(run, small_data).start()
    trained = finish(trainer)
    assert trained.numbers["stop_reason"] == "early stopping"
    losses = [row["val_loss"] for row in trainer.state.rows]
    accuracies = [row["val_accuracy"] for row in trainer.state.rows]
    lowest = losses.index(min(losses))
    assert len(losses) == lowest + 3 == trained.numbers["epochs_run"] < 40
    assert trained.numbers["best_epoch"] == accuracies.index(max(accuracies)) + 1
    assert trained.numbers["best_val_accuracy"] == max(accuracies)
    assert trainer.state.best["best_val_loss"].epoch == lowest + 1
    assert trainer.state.best["terminal"].epoch == len(losses)

    model = models.create("cifar10net").eval()
    for kind in ("best_val_loss", "terminal"):
        model.load_state_dict(trained.weights[kind])
        images, labels = small_data.test.batch(trainer.learner.test_samples, trainer.learner.table)
        with torch.no_grad():
            guesses = model(images.contiguous()).argmax(dim=1)
        accuracy = (guesses == labels).float().mean().item()
        assert trained.numbers[f"test_accuracy_{kind}"] == pytest.approx(accuracy)


def test_a_loss_that_is_no_number_ends_the_run(
    config: RunConfig, small_data: DeviceDataset
) -> None:
    trainer = Trainer(replace(config, learning_rate=1e30, precision="float32"), small_data).start()
    with pytest.raises(NonFiniteLoss, match=r"loss became (nan|inf) in epoch 1"):
        finish(trainer)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_other_optimizers_learn(
    config: RunConfig, small_data: DeviceDataset, optimizer: str
) -> None:
    rate = {"adam": 0.001, "sgd": 0.02}[optimizer]
    trainer = Trainer(replace(config, optimizer=optimizer, learning_rate=rate), small_data).start()
    finish(trainer)
    first, last = (trainer.state.rows[i]["train_loss"] for i in (0, -1))
    assert math.isfinite(last)
    assert last < first


def test_metrics_of_all_images(config: RunConfig, small_data: DeviceDataset) -> None:
    trained = finish(Trainer(replace(config, max_images=0, num_epochs=1), small_data).start())
    assert trained.numbers["test_images"] == len(trained.test_labels) == 200
    assert trained.test.logits.shape == (200, 10)
    assert trained.test.features.shape == (200, 64)
    right = (trained.test.logits.argmax(dim=1) == trained.test_labels).float().mean().item()
    assert trained.numbers["test_accuracy_best_val_acc"] == pytest.approx(right)


def test_checkpoints_are_written_while_training_goes_on(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    """With one due after every step: the run is not held up, and ends as it would have."""
    often = replace(config, checkpoint_minutes=0)
    trainer = Trainer(often, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    for _ in range(3):
        assert trainer.advance()
        trainer.save_if_due()
    trainer.settle()
    assert (tmp_path / "resume.pt").exists()
    resumed = Trainer(often, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    assert resumed.resumed
    assert_same(finish(resumed), finish(Trainer(config, small_data).start()))


def test_a_compiled_step_is_the_step(
    config: RunConfig, small_data: DeviceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dynamo's capture of it, but without the minute that its C++ takes to compile."""
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: whole(model, backend="eager"))
    run = replace(config, max_images=100, num_epochs=1)
    assert_same(
        finish(Trainer(replace(run, compile=True), small_data).start()),
        finish(Trainer(run, small_data).start()),
    )


def test_a_run_stopped_while_it_was_pruned_goes_on_where_nobody_prunes(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    run = replace(config, num_epochs=3, max_images=100)

    def hopeless(rows: Sequence[Row]) -> bool:
        return len(rows) == 2

    trainer = Trainer(
        run, small_data, TrainerContext(checkpoint_dir=tmp_path, should_prune=hopeless)
    ).start()
    while trainer.state.stop_reason is None:
        assert trainer.advance()
    trainer.save()
    pruned = Trainer(
        run, small_data, TrainerContext(checkpoint_dir=tmp_path, should_prune=hopeless)
    ).start()
    assert finish(pruned).numbers["stop_reason"] == "pruned"
    whole = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    assert_same(finish(whole), finish(Trainer(run, small_data).start()))
