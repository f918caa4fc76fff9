"""The base class of every architecture: features of an image, and a head that classifies them."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Classifier(nn.Module, ABC):
    """Images (B, 3, 32, 32) to logits (B, 10), by way of the penultimate features (B, F)."""

    head: nn.Module
    backbone: nn.Module
    """The part before the head, in architectures with pretrained weights."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B, F) of images (B, 3, 32, 32)."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 10) of images (B, 3, 32, 32)."""
        return self.head(self.features(x))
