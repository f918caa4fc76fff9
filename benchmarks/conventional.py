"""The conventional way: worker processes, one image at a time, eager float32, host metrics."""

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.measure import Stepped
from src import models
from src.config import RunConfig
from src.data.dataset import ImageArray, LabelArray
from src.models.classifier import Classifier

_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

BatchSource = DataLoader[tuple[Tensor, int]]


def transform(config: RunConfig) -> Any:
    """The published sweep's transforms of one picture."""
    augmentation = [
        transforms.RandomHorizontalFlip(config.flip),
        transforms.RandomRotation(config.rotation),
        transforms.RandomCrop(32, padding=config.crop_padding),
    ]
    common = [transforms.ToTensor(), transforms.Normalize(_MEAN, _STD)]
    return transforms.Compose((augmentation if config.data_augmentation else []) + common)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images (N, 32, 32, 3) uint8, each made a PIL picture and transformed when asked for."""

    def __init__(self, images: ImageArray, labels: LabelArray, config: RunConfig) -> None:
        self.images, self.labels = np.ascontiguousarray(images), labels
        self.transform = transform(config)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def loader(
    pictures: Pictures, config: RunConfig, device: torch.device, workers: int
) -> BatchSource:
    """Shuffled batches; the workers outlive an epoch, which is kind to this arm."""
    return DataLoader(
        pictures,
        config.batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        drop_last=True,
    )


def build_model(config: RunConfig) -> Classifier:
    """The same model with the same weights as ours."""
    torch.manual_seed(config.seed)
    return models.create(config.model_type, **models.options_of(config))


def build_optimizer(config: RunConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    """AdamW as torch has it by default, with AMSGrad."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
    )


class Conventional(Stepped):
    """One run, trained as the published sweep trains it. It begins the data anew for ever."""

    def __init__(
        self,
        config: RunConfig,
        images: ImageArray,
        labels: LabelArray,
        device: torch.device,
        workers: int = 2,
    ) -> None:
        super().__init__(device)
        self.model = build_model(config).to(device)
        self.optimizer = build_optimizer(config, self.model)
        pictures = Pictures(images, labels, config)
        self.batches = _endless(loader(pictures, config, device, workers))
        self.loss_sum, self.correct, self.seen, self.last_loss = 0.0, 0, 0, float("nan")

    def step(self) -> int:
        """A training step, its loss and accuracy read on the host."""
        batch, labels = next(self.batches)
        batch = batch.to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        self.model.train()
        self.optimizer.zero_grad()
        logits = self.model(batch)
        loss = cross_entropy(logits, labels)
        loss.backward()
        self.optimizer.step()
        self.last_loss = loss.item()
        self.loss_sum += self.last_loss * len(labels)
        self.correct += (logits.argmax(dim=1) == labels).sum().item()
        self.seen += len(labels)
        return len(labels)

    def loss(self) -> float:
        """Of the last batch."""
        return self.last_loss

    def close(self) -> None:
        """End the worker processes."""
        self.batches.close()


def _endless(source: BatchSource) -> Generator[Any, None, None]:
    """The batches of one epoch after another."""
    try:
        while True:
            yield from source
    finally:
        stop_workers(source)


def stop_workers(source: BatchSource) -> None:
    """End the processes of a loader, which persistent ones do not do by themselves."""
    if source._iterator is not None:
        source._iterator._shutdown_workers()  # type: ignore[attr-defined]
        source._iterator = None
