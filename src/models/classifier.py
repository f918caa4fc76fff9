"""The base class of every architecture: features of an image, and a head that classifies them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn


class Classifier(nn.Module, ABC):
    """Images (B, C, S, S) to a logit for each class, by way of the penultimate features (B, F)."""

    evaluation_batch: Mapping[str, int] = {"cpu": 250, "cuda": 2000}
    """Images of 32 x 32 evaluated at a time, by device type; models.build adapts it to other
    sizes. A constant of the architecture and the image size, never of free memory: sums over
    other batches would have other bits after a resume."""
    has_features = True
    """False: `features` returns the logits, and `head` is the identity."""
    head: nn.Module
    backbone: nn.Module
    """The part before the head, in architectures with pretrained weights."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B, F) of images (B, C, S, S)."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, S, S)."""
        return self.head(self.features(x))
