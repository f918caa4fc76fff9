"""The conventional DataLoader with Lightning's Trainer, in mixed precision if it is native.

Lightning is a development dependency, so it is imported only when an arm is built.
"""

import logging
import time
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.conventional import ImageDataset, build_model, build_optimizer, loader, stop_workers
from benchmarks.measure import Duration, Interval, fast_dtype, lead_steps, synchronize
from src.config import RunConfig
from src.data.dataset import ImageArray, LabelArray


def precision(device: torch.device) -> str:
    """Return bf16-mixed, or 32-true if bfloat16 is emulated, which is 100 times slower."""
    return "bf16-mixed" if fast_dtype(device) == torch.bfloat16 else "32-true"


def label(device: torch.device) -> str:
    """Return the name of the arm in tables."""
    return f"lightning, {precision(device)}"


def installed() -> bool:
    """Return whether Lightning can be imported."""
    from importlib.util import find_spec

    return find_spec("lightning") is not None


class BatchCounter:
    """Count the batches of one measuring interval, and detect its end."""

    def __init__(self, duration: Duration, lead: int, device: torch.device) -> None:
        self.duration, self.lead, self.device = duration, lead, device
        self.images = self.steps = 0
        self.started = self.ended = 0.0

    def before(self) -> None:
        """Start the clock before the first counted batch."""
        if not self.lead and not self.steps:
            synchronize(self.device)
            self.started = time.perf_counter()

    def after(self, images: int) -> bool:
        """Count a finished batch; return whether the interval is over."""
        if self.lead:
            self.lead -= 1
            return False
        self.steps += 1
        self.images += images
        is_over = time.perf_counter() - self.started >= self.duration.seconds
        if not is_over or self.steps < self.duration.steps:
            return False
        synchronize(self.device)
        self.ended = time.perf_counter()
        return True

    @property
    def interval(self) -> Interval:
        """The measured interval."""
        return Interval(self.images, self.ended - self.started, self.steps)


class LightningArm:
    """One run under Lightning; each interval is a call of fit that continues the same training.

    The start-up of fit and of its workers is not measured.
    """

    def __init__(
        self,
        config: RunConfig,
        images: ImageArray,
        labels: LabelArray,
        device: torch.device,
        workers: int = 2,
    ) -> None:
        self.device = device
        self.loader = loader(ImageDataset(images, labels, config), config, device, workers)
        self.module = _module(config)
        self._pace = float("inf")

    def measure(self, duration: Duration) -> Interval:
        """Train for a duration."""
        from lightning.pytorch import Trainer

        counter = BatchCounter(duration, lead_steps(duration, self._pace), self.device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on DataLoader workers and unused GPUs
            trainer = Trainer(
                accelerator="gpu" if self.device.type == "cuda" else "cpu",
                devices=1,
                precision=precision(self.device),
                max_epochs=-1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[_callback(counter)],
            )
            trainer.fit(self.module, self.loader)
        self._pace = counter.interval.seconds / counter.interval.steps
        return counter.interval

    def loss(self) -> float:
        """Return the loss of the last batch."""
        return float(self.module.last_loss)

    def close(self) -> None:
        """Stop the worker processes."""
        stop_workers(self.loader)


def training_loss(model: torch.nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return loss and accuracy of a batch."""
    images, labels = batch
    logits = model(images)
    return cross_entropy(logits, labels), (logits.argmax(dim=1) == labels).float().mean()


def _module(config: RunConfig) -> Any:
    from lightning.pytorch import LightningModule

    class Module(LightningModule):
        """The model, its loss and its optimizer as a LightningModule."""

        def __init__(self) -> None:
            super().__init__()
            self.model = build_model(config)
            self.optimizer = build_optimizer(config, self.model)
            self.last_loss = torch.tensor(float("nan"))

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            loss, accuracy = training_loss(self.model, batch)
            self.log_dict({"loss": loss, "accuracy": accuracy}, on_step=False, on_epoch=True)
            self.last_loss = loss.detach()
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return self.optimizer

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return Module()


def _callback(counter: BatchCounter) -> Any:
    from lightning.pytorch import Callback

    class Stop(Callback):
        """Callback that stops fit at the end of the interval."""

        def on_train_batch_start(self, trainer: Any, *_: object) -> None:
            counter.before()

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
        ) -> None:
            trainer.should_stop = counter.after(len(batch[1]))

    return Stop()
