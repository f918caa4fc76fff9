"""Images that stay on the device as bytes, and batches made from them there."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from src.data.augmentation import SIZE, Augmentation
from src.data.dataset import Dataset, ImageArray, LabelArray

_CONSTANTS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


class BatchSource(Protocol):
    """A source of batches: images, or cached features."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64."""

    def batch(
        self,
        samples: Tensor,
        table: Tensor,
        augmentation: Augmentation | None = None,
        epoch: int | Tensor = 0,
    ) -> tuple[Tensor, Tensor]:
        """The model's input for `samples` (B,), and their labels (B,)."""


@dataclass(frozen=True)
class DeviceImages:
    """N images on a device: pixels (N * 1024,) int32, four bytes R G B 0 each; labels (N,).

    A pixel in one word is gathered about three times as fast as its three bytes.
    """

    pixels: Tensor
    labels: Tensor

    @classmethod
    def put(cls, pixels: ImageArray, labels: LabelArray, device: torch.device) -> "DeviceImages":
        """Copy pixels (N, 32, 32, 4) uint8 and labels (N,) to `device`; shared on a CPU."""
        words = torch.from_numpy(pixels).view(torch.int32).view(-1)
        return cls(words.to(device), torch.from_numpy(labels).to(device))

    def batch(
        self,
        samples: Tensor,
        table: Tensor,
        augmentation: Augmentation | None = None,
        epoch: int | Tensor = 0,
    ) -> tuple[Tensor, Tensor]:
        """Normalised images (B, 3, 32, 32) float32 and labels (B,).

        samples: indices (B,) int64. table: from `normalization_table`.
        """
        if augmentation is None:
            words = self.pixels.view(-1, SIZE * SIZE).index_select(0, samples)
            images = _normalised(words.view(-1), table)
        else:
            images = self._augmented(samples, table, augmentation, epoch)
        return images, self.labels.index_select(0, samples)

    def _augmented(
        self, samples: Tensor, table: Tensor, augmentation: Augmentation, epoch: int | Tensor
    ) -> Tensor:
        draws = augmentation.draws(epoch, samples)
        sources, outside = augmentation.sources(draws)
        first = (samples * SIZE * SIZE).to(torch.int32).view(-1, 1, 1)
        words = self.pixels.index_select(0, (sources + first).view(-1))
        words.masked_fill_(outside.view(-1), 0)
        if augmentation.jitter is None or draws.jitter is None:
            images = _normalised(words, table)
        else:
            jittered = augmentation.jitter(_unit_planes(words), draws.jitter)
            low, high = table[:, :1], table[:, -1:]  # of the bytes 0 and 255: it is linear
            images = jittered.mul_(high - low).add_(low).view(-1, 3, SIZE, SIZE)
        return augmentation.blanked(images, draws)


def _unit_planes(words: Tensor) -> Tensor:
    """Pixels (B * 1024,) of four bytes each as colours (B, 3, 1024) in 0..1."""
    words = words.view(-1, SIZE * SIZE)
    values = torch.empty(len(words), 3, SIZE * SIZE, device=words.device)
    for channel in range(3):
        values[:, channel] = (words >> (8 * channel)) & 255
    return values.div_(255)


def _normalised(words: Tensor, table: Tensor) -> Tensor:
    """Pixels (B * 1024,) of four bytes each as normalised images (B, 3, 32, 32), channels last."""
    values = torch.empty(len(words), 3, dtype=table.dtype, device=words.device)
    for channel in range(3):
        byte = (words >> (8 * channel)) & 255
        torch.index_select(table[channel], 0, byte, out=values[:, channel])
    return values.view(-1, SIZE, SIZE, 3).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class DeviceDataset:
    """A data set on a device, shared by all runs there."""

    dataset: Dataset
    device: torch.device
    train: DeviceImages
    test: DeviceImages

    @classmethod
    def put(cls, dataset: Dataset, device: torch.device) -> "DeviceDataset":
        """Copy a data set to `device`: about 250 MB for CIFAR-10; on a CPU it is shared."""
        return cls(
            dataset,
            device,
            DeviceImages.put(dataset.train_pixels, dataset.train_labels, device),
            DeviceImages.put(dataset.test_pixels, dataset.test_labels, device),
        )


def normalization_table(name: str, images: ImageArray) -> Tensor:
    """(3, 256) float32: the normalised value of each byte of each channel.

    name: a named constant, or 'measured' for the mean and std of `images`. The arithmetic is
    that of torchvision's ToTensor and Normalize.
    """
    mean: tuple[float, ...]
    if name == "measured":
        mean, std = _measured(images)
    else:
        mean, std = _CONSTANTS[name]
    bytes_ = torch.arange(256, dtype=torch.float32).div(255)
    mean_, std_ = (torch.tensor(part, dtype=torch.float32).view(3, 1) for part in (mean, std))
    return (bytes_ - mean_) / std_


def _measured(images: ImageArray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of full scale, from its histogram."""
    values = np.arange(256) / 255
    counts = [np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)]
    means = [float(np.average(values, weights=count)) for count in counts]
    variances = [
        float(np.average((values - mean) ** 2, weights=count))
        for mean, count in zip(means, counts, strict=True)
    ]
    return tuple(means), tuple(variance**0.5 for variance in variances)
