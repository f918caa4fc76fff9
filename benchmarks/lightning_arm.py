"""The conventional loader under Lightning's Trainer, in mixed precision where that is native.

Lightning is a dependency of development alone: it is imported when an arm is built.
"""

import logging
import time
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.conventional import Pictures, build_model, build_optimizer, loader, stop_workers
from benchmarks.measure import Amount, Spell, fast_dtype, lead_steps, synchronize
from src.config import RunConfig
from src.data.dataset import ImageArray, LabelArray


def precision(device: torch.device) -> str:
    """bf16-mixed; full precision where bfloat16 is emulated, a hundred times as slow."""
    return "bf16-mixed" if fast_dtype(device) == torch.bfloat16 else "32-true"


def label(device: torch.device) -> str:
    """The arm's name in a table."""
    return f"lightning, {precision(device)}"


def installed() -> bool:
    """Whether Lightning can be imported."""
    from importlib.util import find_spec

    return find_spec("lightning") is not None


class JobPoller:
    """Counts the batches of one spell, and says when it is over."""

    def __init__(self, amount: Amount, lead: int, device: torch.device) -> None:
        self.amount, self.lead, self.device = amount, lead, device
        self.images = self.steps = 0
        self.started = self.ended = 0.0

    def before(self) -> None:
        """A batch is there, and is about to be trained on."""
        if not self.lead and not self.steps:
            synchronize(self.device)
            self.started = time.perf_counter()

    def after(self, images: int) -> bool:
        """A batch of `images` is done; whether that was the last one."""
        if self.lead:
            self.lead -= 1
            return False
        self.steps += 1
        self.images += images
        over = time.perf_counter() - self.started >= self.amount.seconds
        if not over or self.steps < self.amount.steps:
            return False
        synchronize(self.device)
        self.ended = time.perf_counter()
        return True

    @property
    def spell(self) -> Spell:
        """What was counted."""
        return Spell(self.images, self.ended - self.started, self.steps)


class LightningArm:
    """One run under Lightning; every spell is a call of fit, with the same weights and optimizer.

    The start of fit and of its workers is not counted.
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
        self.loader = loader(Pictures(images, labels, config), config, device, workers)
        self.module = _module(config)
        self._pace = float("inf")

    def spell(self, amount: Amount) -> Spell:
        """Train for an amount of time."""
        from lightning.pytorch import Trainer

        watch = JobPoller(amount, lead_steps(amount, self._pace), self.device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice about loaders, and our GPU that it may not use
            trainer = Trainer(
                accelerator="gpu" if self.device.type == "cuda" else "cpu",
                devices=1,
                precision=precision(self.device),
                max_epochs=-1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[_callback(watch)],
            )
            trainer.fit(self.module, self.loader)
        self._pace = watch.spell.seconds / watch.spell.steps
        return watch.spell

    def loss(self) -> float:
        """Of the last batch."""
        return float(self.module.last_loss)

    def close(self) -> None:
        """End the worker processes."""
        stop_workers(self.loader)


def training_loss(model: torch.nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Loss and accuracy of a batch."""
    images, labels = batch
    logits = model(images)
    return cross_entropy(logits, labels), (logits.argmax(dim=1) == labels).float().mean()


def _module(config: RunConfig) -> Any:
    from lightning.pytorch import LightningModule

    class Module(LightningModule):
        """The model, its loss and its optimizer, as Lightning wants them."""

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


def _callback(watch: JobPoller) -> Any:
    from lightning.pytorch import Callback

    class Stop(Callback):
        """Ends fit when the spell is over."""

        def on_train_batch_start(self, trainer: Any, *_: object) -> None:
            watch.before()

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
        ) -> None:
            trainer.should_stop = watch.after(len(batch[1]))

    return Stop()
