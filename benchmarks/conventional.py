"""Conventional training: DataLoader workers, per-image transforms, eager float32."""

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.measure import StepwiseArm
from src import models
from src.config import RunConfig
from src.data.dataset import ImageArray, LabelArray
from src.models.classifier import Classifier

_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

BatchSource = DataLoader[tuple[Tensor, int]]


def transform(config: RunConfig) -> Any:
    """Return the transforms of one image, as in the published sweep."""
    augmentation = [
        transforms.RandomHorizontalFlip(config.flip),
        transforms.RandomRotation(config.rotation),
        transforms.RandomCrop(32, padding=config.crop_padding),
    ]
    common = [transforms.ToTensor(), transforms.Normalize(_MEAN, _STD)]
    return transforms.Compose((augmentation if config.data_augmentation else []) + common)


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Dataset of images (N, 32, 32, 3) uint8, each converted to PIL and transformed on access."""

    def __init__(self, images: ImageArray, labels: LabelArray, config: RunConfig) -> None:
        self.images, self.labels = np.ascontiguousarray(images), labels
        self.transform = transform(config)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def loader(
    dataset: ImageDataset, config: RunConfig, device: torch.device, workers: int
) -> BatchSource:
    """Return a shuffling DataLoader with persistent workers, the fastest setting for this arm."""
    return DataLoader(
        dataset,
        config.batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        drop_last=True,
    )


def build_model(config: RunConfig) -> Classifier:
    """Create the same model with the same initial weights as src.training does."""
    torch.manual_seed(config.seed)
    return models.create(config.model_type, **models.options_of(config))


def build_optimizer(config: RunConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Create torch's default AdamW, with AMSGrad."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
    )


class Conventional(StepwiseArm):
    """One run, trained as in the published sweep, with epochs repeated endlessly."""

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
        dataset = ImageDataset(images, labels, config)
        self.batches = _endless(loader(dataset, config, device, workers))
        self.loss_sum, self.correct, self.seen, self.last_loss = 0.0, 0, 0, float("nan")

    def step(self) -> int:
        """Do a training step and read loss and accuracy on the host; return the batch size."""
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
        """Return the loss of the last batch."""
        return self.last_loss

    def close(self) -> None:
        """Stop the worker processes."""
        self.batches.close()


def _endless(source: BatchSource) -> Generator[Any, None, None]:
    """Yield the batches of one epoch after another, without end."""
    try:
        while True:
            yield from source
    finally:
        stop_workers(source)


def stop_workers(source: BatchSource) -> None:
    """Stop the worker processes of a DataLoader, since persistent workers keep running."""
    if source._iterator is not None:
        source._iterator._shutdown_workers()  # type: ignore[attr-defined]
        source._iterator = None
