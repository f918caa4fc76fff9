"""What every architecture is: features of an image, and a last layer that classifies them."""

from torch import Tensor, nn


class Classifier(nn.Module):
    """Images (B, 3, 32, 32) to logits (B, 10), by way of the penultimate features (B, F)."""

    head: nn.Module

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B, F) of images (B, 3, 32, 32)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 10) of images (B, 3, 32, 32)."""
        return self.head(self.features(x))
