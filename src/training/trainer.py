"""Training one run: a slot that owns its model, optimizer, schedule, random streams and order."""

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from src.config import CHECKPOINT_KINDS, RunConfig
from src.data.augment import SHUFFLE, Augmentation, hashed
from src.data.resident import ResidentData, normalization_table
from src.data.split import split
from src.training import checkpoint
from src.training.early_stopping import EarlyStopping
from src.training.evaluate import Evaluation, evaluate
from src.training.metrics import Metrics
from src.training.precision import pick_dtype
from src.training.schedules import learning_rate
from src.training.setup import batch_bounds, build_model, build_optimizer, step_seed
from src.training.tracker import Row, Tracker, Trackers

Weights = dict[str, Tensor]
T = TypeVar("T")

_STATE_FORMAT = 1  # of a resume checkpoint


class NonFiniteLoss(ArithmeticError):
    """The loss is no longer a number: nothing that follows could mean anything."""


@dataclass(frozen=True)
class Best:
    """Weights worth keeping, and the epoch (from 1) that they are of."""

    epoch: int
    weights: Weights


@dataclass(frozen=True)
class Trained:
    """What a finished run leaves: numbers by name, weights and test-set evaluation by kind."""

    numbers: dict[str, Any]
    weights: dict[str, Weights]
    test_labels: Tensor
    test: Evaluation
    """Of the best_val_acc checkpoint."""


class Trainer:
    """One run on one device. Call `advance` until it returns False, then read `trained`.

    Between two calls `save` stores everything needed to go on bit for bit, and a Trainer of the
    same config and folder goes on from there.
    """

    def __init__(
        self,
        config: RunConfig,
        data: ResidentData,
        *,
        folder: Path | None = None,
        tracker: Tracker | None = None,
    ) -> None:
        self.config, self.data, self.folder = config, data, folder
        self.tracker = tracker or Trackers()
        device = data.device
        self.dtype = pick_dtype(config.precision, device)
        self.train_samples, self.val_samples = (
            torch.from_numpy(part).to(device) for part in split(data.dataset, config)
        )
        self.test_samples = torch.arange(len(data.test.labels), device=device)
        self.test_samples = self.test_samples[: config.max_images or None]
        images = data.dataset.train_images
        if config.normalization == "measured":
            images = images[self.train_samples.cpu()]
        self.table = normalization_table(config.normalization, images).to(device)
        self.augmentation = Augmentation(config, device) if config.data_augmentation else None

        self.model = build_model(config, device)
        self.optimizer = build_optimizer(config, self.model)
        self.stopping = EarlyStopping(config.early_stopping_patience)
        self.bounds = batch_bounds(len(self.train_samples), config.batch_size)

        self.epoch = 0  # from 0; the epoch in progress, or the number of epochs done
        self.step = 0  # the next step of it
        self.metrics = Metrics(device)
        self.rows: list[Row] = []
        self.best: dict[str, Best] = {}
        self.best_val_accuracy = -math.inf
        self.stop_reason: str | None = None
        self.seconds = {"train": 0.0, "validation": 0.0}
        self.trained: Trained | None = None

        self.resumed = self._resume()
        self._saved_at = time.monotonic()
        self._work = self._train()

    def advance(self) -> bool:
        """Do one unit of work: a training step, a batch of an evaluation. False when all is done.

        Raises NonFiniteLoss at the end of an epoch whose loss is not a finite number.
        """
        try:
            next(self._work)
        except StopIteration:
            return False
        return True

    def save(self) -> None:
        """Write the resume checkpoint, where the run has a folder."""
        if self.folder:
            self.tracker.before_save()
            checkpoint.save(self.folder, self._state())
        self._saved_at = time.monotonic()

    def save_if_due(self) -> None:
        """Write it if the last one is `checkpoint_minutes` old."""
        if time.monotonic() - self._saved_at >= self.config.checkpoint_minutes * 60:
            self.save()

    def _train(self) -> Iterator[None]:
        """The run from where it stands to its end. State is whole at every yield."""
        while self.stop_reason is None:
            yield from self._timed("train", self._train_epoch())
            _require_finite("training", self.metrics.running()[0], self.epoch + 1)
            validation = (yield from self._validate()) if self._validates() else {}
            self._end_epoch(validation)
            yield
        self.trained = yield from self._test()

    def _train_epoch(self) -> Generator[None, None, None]:
        order = self._order()
        images, count = self.data.train, len(order)
        self.model.train()
        while self.step < len(self.bounds):
            first, last = self.bounds[self.step]
            self._set_learning_rate()
            torch.manual_seed(step_seed(self.config.seed, self.epoch, self.step))  # dropout
            batch, labels = images.batch(
                order[first:last], self.table, self.augmentation, self.epoch
            )
            with torch.autocast(batch.device.type, self.dtype, enabled=self._autocast):
                logits = self.model(batch)
            logits = logits.float()
            loss = cross_entropy(logits, labels)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.metrics.add(loss.detach(), logits.detach(), labels)
            self.step += 1
            self.tracker.step(self.epoch + 1, last, count, self.metrics.running)
            yield

    def _validate(self) -> Generator[None, None, dict[str, float]]:
        work = evaluate(self.model, self.data.train, self.val_samples, self.table, self.dtype)
        evaluation = yield from self._timed("validation", work)
        summary = evaluation.metrics.summary("val")
        _require_finite("validation", summary["val_loss"], self.epoch + 1)
        return summary

    def _end_epoch(self, validation: dict[str, float]) -> None:
        """Everything that changes at the end of an epoch, between two yields."""
        training = self.metrics.summary("train")
        rate = self.optimizer.param_groups[0]["lr"]
        seconds = sum(self.seconds.values()) - sum(row["seconds"] for row in self.rows)
        self.epoch += 1
        self.step = 0
        self.metrics = Metrics(self.data.device)
        row = {"epoch": self.epoch, "lr": rate, **training, **validation}
        self.rows.append({**row, "seconds": round(seconds, 3)})
        if validation:
            self._keep_best(validation)
        if self.epoch == self.config.num_epochs:
            self.stop_reason = "completed"
        elif self.stopping.exhausted:
            self.stop_reason = "early stopping"
        if self.stop_reason:
            self.best["terminal"] = Best(self.epoch, _copy(self.model))
        self.tracker.epoch(self.rows)

    def _keep_best(self, validation: dict[str, float]) -> None:
        improved = {
            "best_val_acc": validation["val_accuracy"] > self.best_val_accuracy,
            "best_val_loss": self.stopping.update(validation["val_loss"]),
        }
        if any(improved.values()):
            now = Best(self.epoch, _copy(self.model))
            self.best |= {kind: now for kind, better in improved.items() if better}
        self.best_val_accuracy = max(self.best_val_accuracy, validation["val_accuracy"])

    def _test(self) -> Generator[None, None, Trained]:
        """Test-set metrics of the three checkpoints; equal ones are evaluated once."""
        by_epoch: dict[int, Evaluation] = {}
        for best in self.best.values():
            if best.epoch not in by_epoch:
                self.model.load_state_dict(best.weights)
                by_epoch[best.epoch] = yield from evaluate(
                    self.model, self.data.test, self.test_samples, self.table, self.dtype
                )
        numbers = self._numbers()
        for kind in CHECKPOINT_KINDS:
            summary = by_epoch[self.best[kind].epoch].metrics.summary("test")
            numbers |= {f"{name}_{kind}": value for name, value in summary.items()}
        return Trained(
            numbers,
            {kind: best.weights for kind, best in self.best.items()},
            self.data.test.labels[self.test_samples],
            by_epoch[self.best["best_val_acc"].epoch],
        )

    def _numbers(self) -> dict[str, Any]:
        last = {k: v for k, v in self.rows[-1].items() if k.startswith(("train_", "val_"))}
        images = self.epoch * len(self.train_samples)
        return {
            "epochs_run": self.epoch,
            "best_epoch": self.best["best_val_acc"].epoch,
            "best_val_accuracy": self.best_val_accuracy,
            "stop_reason": self.stop_reason,
            "train_seconds": round(self.seconds["train"], 3),
            "images_per_second": round(images / max(self.seconds["train"], 1e-9), 1),
            "test_images": len(self.test_samples),
            "precision": str(self.dtype).removeprefix("torch."),
            **last,
        }

    def _validates(self) -> bool:
        done = self.epoch + 1
        return done % self.config.val_freq == 0 or done == self.config.num_epochs

    def _order(self) -> Tensor:
        """The training samples in the order of this epoch."""
        keys = hashed(self.config.seed, self.epoch, SHUFFLE, self.train_samples)
        return self.train_samples[torch.argsort(keys, stable=True)]

    def _set_learning_rate(self) -> None:
        rate = learning_rate(self.config, self.epoch, self.step, len(self.bounds))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    @property
    def _autocast(self) -> bool:
        return self.dtype != torch.float32

    def _timed(self, part: str, work: Generator[None, None, T]) -> Generator[None, None, T]:
        """Do `work`, counting its own seconds and not those between its steps."""
        while True:
            started = time.perf_counter()
            try:
                next(work)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self.seconds[part] += time.perf_counter() - started
            yield

    def _state(self) -> dict[str, Any]:
        ended = self.best.get("terminal")  # then the model is only a vessel for evaluations
        return {
            "format": _STATE_FORMAT,
            "id": self.config.id,
            "epoch": self.epoch,
            "step": self.step,
            "model": ended.weights if ended else self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "metrics": self.metrics.state(),
            "rows": self.rows,
            "best": {kind: [best.epoch, best.weights] for kind, best in self.best.items()},
            "best_val_accuracy": self.best_val_accuracy,
            "lowest_loss": self.stopping.lowest,
            "without_gain": self.stopping.without_gain,
            "stop_reason": self.stop_reason,
            "seconds": self.seconds,
        }

    def _resume(self) -> bool:
        """Go on from the folder's checkpoint, if there is one of this run and this format."""
        state = checkpoint.load(self.folder, self.data.device) if self.folder else None
        if not state or state["id"] != self.config.id or state.get("format") != _STATE_FORMAT:
            return False
        self.epoch, self.step, self.rows = state["epoch"], state["step"], state["rows"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.metrics.load(state["metrics"])
        self.best = {kind: Best(epoch, weights) for kind, (epoch, weights) in state["best"].items()}
        self.best_val_accuracy = state["best_val_accuracy"]
        self.stopping.lowest = state["lowest_loss"]
        self.stopping.without_gain = state["without_gain"]
        self.stop_reason = state["stop_reason"]
        self.seconds = state["seconds"]
        return True


def _copy(model: nn.Module) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _require_finite(part: str, loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise NonFiniteLoss(f"the {part} loss became {loss} in epoch {epoch}")
