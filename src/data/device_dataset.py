"""Images that stay on the device as bytes, and batches made from them there."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from src.data.augmentation import Augmentation
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
        indices: Tensor,
        normalization: Tensor,
        augmentation: Augmentation | None = None,
        epoch: int | Tensor = 0,
    ) -> tuple[Tensor, Tensor]:
        """The model's input for `indices` (B,), and their labels (B,)."""


@dataclass(frozen=True)
class DeviceImages:
    """N images on a device: pixels (N * S * S,), and labels (N,).

    A pixel is an int32 of four bytes R G B 0, which is gathered about three times as fast as its
    three bytes; a grey pixel is a uint8.
    """

    pixels: Tensor
    labels: Tensor
    size: int
    """Side of an image, S."""

    @classmethod
    def put(cls, pixels: ImageArray, labels: LabelArray, device: torch.device) -> "DeviceImages":
        """Copy packed pixels (N, S, S, P) and labels (N,) to `device`; shared on a CPU."""
        words = torch.from_numpy(pixels)
        if pixels.shape[3] == 4:
            words = words.view(torch.int32)
        return cls(words.view(-1).to(device), torch.from_numpy(labels).to(device), pixels.shape[1])

    def batch(
        self,
        indices: Tensor,
        normalization: Tensor,
        augmentation: Augmentation | None = None,
        epoch: int | Tensor = 0,
    ) -> tuple[Tensor, Tensor]:
        """Normalised images (B, C, S, S) float32 and labels (B,).

        indices: (B,) int64. normalization: (C, 256), from `normalization_table`.
        """
        if augmentation is None:
            words = self.pixels.view(-1, self.size**2).index_select(0, indices)
            images = self._normalised(words.view(-1), normalization)
        else:
            images = self._augmented(indices, normalization, augmentation, epoch)
        return images, self.labels.index_select(0, indices)

    def _augmented(
        self,
        indices: Tensor,
        normalization: Tensor,
        augmentation: Augmentation,
        epoch: int | Tensor,
    ) -> Tensor:
        draws = augmentation.draws(epoch, indices)
        sources, outside = augmentation.sources(draws)
        first = (indices * self.size**2).to(self._index_type).view(-1, 1, 1)
        words = self.pixels.index_select(0, (sources + first).view(-1))
        words.masked_fill_(outside.view(-1), 0)
        if augmentation.jitter is None or draws.jitter is None:
            images = self._normalised(words, normalization)
        else:
            channels = len(normalization)
            jittered = augmentation.jitter(self._unit_planes(words), draws.jitter)[:, :channels]
            # it is linear: the values of the bytes 0 and 255 tell all
            low, high = normalization[:, :1], normalization[:, -1:]
            images = jittered.mul_(high - low).add_(low)
            images = images.view(-1, channels, self.size, self.size)
        return augmentation.blanked(images, draws)

    @property
    def _index_type(self) -> torch.dtype:
        """The type of an index into the pixels: int32 is faster, while it can hold the last one."""
        return torch.int32 if self.pixels.numel() < 2**31 else torch.int64

    def _unit_planes(self, words: Tensor) -> Tensor:
        """Pixels (B * S * S,) as colours (B, 3, S * S) in 0..1; grey ones have three equal ones."""
        words = words.view(-1, self.size**2)
        values = torch.empty(len(words), 3, self.size**2, device=words.device)
        for channel in range(3):
            values[:, channel] = _byte(words, channel)
        return values.div_(255)

    def _normalised(self, words: Tensor, normalization: Tensor) -> Tensor:
        """Pixels (B * S * S,) as normalised images (B, C, S, S), channels last."""
        channels = len(normalization)
        values = torch.empty(len(words), channels, dtype=normalization.dtype, device=words.device)
        for channel in range(channels):
            byte = _byte(words, channel)
            torch.index_select(normalization[channel], 0, byte, out=values[:, channel])
        return values.view(-1, self.size, self.size, channels).permute(0, 3, 1, 2)


def _byte(words: Tensor, channel: int) -> Tensor:
    """A channel of pixels as int32; grey pixels (uint8) are alike in all."""
    return words.int() if words.dtype == torch.uint8 else (words >> (8 * channel)) & 255


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


def is_measured(name: str, channels: int) -> bool:
    """Whether statistics are measured: for 'measured', and for grey images unless 'half'."""
    return name == "measured" or (channels == 1 and name != "half")


def normalization_table(name: str, images: ImageArray) -> Tensor:
    """(C, 256) float32: the normalised value of each byte of each channel.

    name: a named constant, or 'measured' for the mean and std of `images` (N, S, S, C). The
    arithmetic is that of torchvision's ToTensor and Normalize.
    """
    channels = images.shape[-1]
    mean: tuple[float, ...]
    if is_measured(name, channels):
        mean, std = _measured(images)
    else:
        mean, std = (part[:channels] for part in _CONSTANTS[name])
    bytes_ = torch.arange(256, dtype=torch.float32).div(255)
    mean_, std_ = (torch.tensor(part, dtype=torch.float32).view(-1, 1) for part in (mean, std))
    return (bytes_ - mean_) / std_


def _measured(images: ImageArray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of full scale, from its histogram."""
    values = np.arange(256) / 255
    channels = range(images.shape[-1])
    counts = [np.bincount(images[..., channel].ravel(), minlength=256) for channel in channels]
    means = [float(np.average(values, weights=count)) for count in counts]
    variances = [
        float(np.average((values - mean) ** 2, weights=count))
        for mean, count in zip(means, counts, strict=True)
    ]
    # one shade alone has no deviation: its images become zero
    return tuple(means), tuple(variance**0.5 or 1.0 for variance in variances)
