"""The base class of every architecture: features of an image, and a head that classifies them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn


class Classifier(nn.Module, ABC):
    """Images (B, 3, 32, 32) to logits (B, 10), by way of the penultimate features (B, F)."""

    evaluation_batch: ClassVar[Mapping[str, int]] = {"cpu": 250, "cuda": 2000}
    """Images evaluated at a time, by device type. A constant of the architecture and its image
    size, never of free memory: sums over other batches would have other bits after a resume."""
    head: nn.Module
    backbone: nn.Module
    """The part before the head, in architectures with pretrained weights."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B, F) of images (B, 3, 32, 32)."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 10) of images (B, 3, 32, 32)."""
        return self.head(self.features(x))
