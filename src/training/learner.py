"""The model, optimizer and training step of one run."""

import math
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.modules.dropout import _DropoutNd

from src.config import RunConfig
from src.cpu.whole_map import count_parameters, decay_dead_taps
from src.data.augmentation import SHUFFLE, Augmentation, hashed
from src.data.device_dataset import (
    BatchSource,
    DeviceDataset,
    is_measured,
    normalization_table,
)
from src.data.split import split
from src.models.classifier import Classifier
from src.training import feature_cache
from src.training.compute_format import ComputeFormat
from src.training.cuda_graphs import WAITING, GraphRunner
from src.training.ema import ExponentialMovingAverage, update_share
from src.training.evaluation import Evaluation, evaluate, evaluate_batch
from src.training.initial_weights import is_frozen
from src.training.lr_schedules import learning_rate
from src.training.metrics import Metrics, MetricTotals
from src.training.model_setup import batch_bounds, build_model, step_seed
from src.training.optimizers import build_optimizer, load_state, lr_tensor
from src.training.run_state import Weights
from src.training.step_inputs import StepInputs


class Learner:
    """The model of a run on its device, and the steps that train and evaluate it.

    A step reads what changes from step to step from tensors, so that it can be captured once and
    replayed (see step_inputs.py). Nothing in an epoch waits for the device.
    """

    def __init__(
        self,
        config: RunConfig,
        data: DeviceDataset,
        graph_runner: GraphRunner,
        compute_format: ComputeFormat,
    ) -> None:
        self.config, self.data = config, data
        self.graph_runner, self.compute_format = graph_runner, compute_format
        device = data.device
        self.train_indices, self.val_indices = (
            torch.from_numpy(part).to(device) for part in split(data.dataset, config)
        )
        self.test_indices = torch.arange(len(data.test.labels), device=device)
        self.test_indices = self.test_indices[: config.max_images or None]
        spec, images = data.dataset.spec, data.dataset.train_images
        if is_measured(config.normalization, spec.channels):
            images = images[self.train_indices.cpu()]
        self.normalization = normalization_table(config.normalization, images).to(device)
        augmented = config.data_augmentation
        self.augmentation = Augmentation(config, device, spec.size) if augmented else None
        self.bounds = batch_bounds(len(self.train_indices), config.batch_size)

        self.train_images: BatchSource = data.train
        self.test_images: BatchSource = data.test
        self.model = build_model(config, device, compute_format, spec)
        self.parameters = count_parameters(self.model)
        self.ema = ExponentialMovingAverage(self.model) if config.ema else None
        self._use_model(self.model)
        # code of unknown structure may draw without such a module
        self._uses_torch_rng = config.is_external_model or any(
            isinstance(module, _DropoutNd) for module in self.model.modules()
        )
        self.lr = lr_tensor(device)
        self.optimizer = build_optimizer(config, self.model, self.lr)
        # float16 underflows without a loss scale; the other formats have the range of float32
        scaled = compute_format.precision == "float16"
        self.scaler = torch.amp.GradScaler(device.type) if scaled else None
        self.metrics, self.val_metrics = (Metrics(device, spec.classes) for _ in range(2))

        self._eval_batch = self.model.evaluation_batch[device.type]
        longest = max(*(last - first for first, last in self.bounds), self._eval_batch)
        steps = len(self.bounds)
        self._inputs = StepInputs(self.train_indices, steps, longest, self.lr.dtype)

    def prepare(self) -> Generator[object, None, None]:
        """Do what is needed once before the first epoch; yields between batches.

        If only the last layer is trained, on images that are not augmented, its input never
        changes: the features are computed once.
        """
        if is_frozen(self.config) and not self.config.data_augmentation and not self.ema:
            through = (self.model, self.normalization, self.compute_format)
            seen = torch.cat([self.train_indices, self.val_indices])
            self.train_images = yield from feature_cache.features(self.data.train, seen, *through)
            self.test_images = yield from feature_cache.features(
                self.data.test, self.test_indices, *through
            )
            self._use_model(feature_cache.HeadOnly(self.model.head))

    def _use_model(self, model: Classifier) -> None:
        """Train and evaluate with `model`, which shares its parameters with `self.model`."""
        self._trained = model
        self._forward: Callable[[Tensor], Tensor] = (
            torch.compile(model) if self.config.compile else model
        )

    @property
    def _evaluated(self) -> Classifier:
        return self.ema.model if self.ema else self._trained

    def start_epoch(self, epoch: int, step: int) -> None:
        """Prepare the tensors for an epoch (from 0), to begin at a step of it (from 0)."""
        shares = self._ema_shares(epoch) if self.ema else None
        self._inputs.start_epoch(epoch, step, self.order(epoch), self._lrs(epoch), shares)
        self._trained.train()

    def order(self, epoch: int) -> Tensor:
        """The training indices in the random order of an epoch."""
        keys = hashed(self.config.seed, epoch, SHUFFLE, self.train_indices)
        return self.train_indices[torch.argsort(keys, stable=True)]

    def lr_at(self, epoch: int, step: int) -> float:
        """The learning rate of a step."""
        return learning_rate(self.config, epoch, step, len(self.bounds))

    def train_batch(self, epoch: int, step: int) -> None:
        """Do one training step. Steps must follow each other, starting as in `start_epoch`."""
        first, last = self.bounds[step]
        if self._uses_torch_rng:
            torch.manual_seed(step_seed(self.config.seed, epoch, step))
        with self.compute_format.backend_settings(self.data.device):
            self.graph_runner.run_step("train", self._train_step, last - first)

    def end_epoch(self, epoch: int) -> None:
        """Apply what is deferred to the end of an epoch. The weights are then those of its end."""
        if self.config.optimizer == "adamw":
            decay = self.config.weight_decay
            decay_dead_taps(self.model, math.prod(1 - lr * decay for lr in self._lrs(epoch)))
        self.metrics.reset()

    def validate(self) -> Generator[object, None, MetricTotals]:
        """Metrics on the validation images; yields between batches."""
        self._evaluated.eval()
        self.val_metrics.reset()
        self._inputs.restart()
        count, size = len(self.val_indices), self._eval_batch
        for first in range(0, count, size):
            if first:
                yield None
            self.graph_runner.run_step("validate", self._validate_step, min(size, count - first))
        reading = self.val_metrics.read()
        while not reading.ready():
            yield WAITING
        return reading.totals()

    def test(self, weights: Weights) -> Generator[object, None, Evaluation]:
        """Evaluate `weights` on the test images. The model keeps these weights."""
        (self.ema.model if self.ema else self.model).load_state_dict(weights)
        return (
            yield from evaluate(
                self._evaluated,
                self.test_images,
                self.test_indices,
                self.normalization,
                self.compute_format,
                self.data.dataset.spec.classes,
            )
        )

    def weights(self) -> Weights:
        """A copy of the state dict of the model that is evaluated: the EMA, if there is one."""
        model = self.ema.model if self.ema else self.model
        return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """State of the model, optimizer and metrics of the epoch, for a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "metrics": self.metrics.state(),
            **({"averaged": self.ema.model.state_dict()} if self.ema else {}),
            **({"scaler": self.scaler.state_dict()} if self.scaler else {}),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.model.load_state_dict(state["model"])
        load_state(self.optimizer, state["optimizer"], self.lr)
        self.metrics.load(state["metrics"])
        if self.ema:
            self.ema.model.load_state_dict(state["averaged"])
        if self.scaler and "scaler" in state:  # a checkpoint of another device has none
            self.scaler.load_state_dict(state["scaler"])

    def _train_step(self, size: int) -> None:
        inputs = self._inputs
        indices = inputs.indices(size, self.config.batch_size)
        self.lr.copy_(inputs.lr)
        batch, labels = self.train_images.batch(
            indices, self.normalization, self.augmentation, inputs.epoch
        )
        with self.compute_format.autocast(batch.device):
            logits = self._forward(self.compute_format.to_memory_format(batch))
        logits = logits.float()
        loss = cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        if self.scaler:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)  # skipped, on the device, if a gradient overflowed
            self.scaler.update()
        else:
            loss.backward()
            self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(inputs.ema_share)
        self.metrics.add(loss.detach(), logits.detach(), labels)
        inputs.advance()

    def _validate_step(self, size: int) -> None:
        positions = self._inputs.positions(size, self._eval_batch)
        indices = self.val_indices.index_select(0, positions)
        evaluate_batch(
            self._evaluated,
            self.train_images,
            indices,
            self.normalization,
            self.compute_format,
            self.val_metrics,
        )
        self._inputs.advance()

    def _ema_shares(self, epoch: int) -> list[float]:
        first = epoch * len(self.bounds)
        return [update_share(self.config.ema, first + i) for i in range(len(self.bounds))]

    def _lrs(self, epoch: int) -> list[float]:
        return [self.lr_at(epoch, step) for step in range(len(self.bounds))]
