"""TinyVGG, the small network of the CNN Explainer, with the options that others gave it."""

from torch import Tensor, nn

from src.data.spec import CIFAR10, DataSpec
from src.models import register
from src.models.classifier import Classifier


def conv_block(channels: int, out: int, batch_norm: bool, dropout: float) -> nn.Sequential:
    """Two 3x3 convolutions with ReLU, then a 2x2 max-pool: (H, W) halved."""
    layers: list[nn.Module] = []
    for inputs in (channels, out):
        layers.append(nn.Conv2d(inputs, out, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out))
        layers.append(nn.ReLU())
    layers.append(nn.MaxPool2d(2))
    if dropout:
        layers.append(nn.Dropout2d(dropout))
    return nn.Sequential(*layers)


@register("tinyvgg")
class TinyVGG(Classifier):
    """153,546 parameters, 154,058 with batch norm. https://poloclub.github.io/cnn-explainer

    hidden_units: channels of every convolution. dropout: of whole channels after each block, and
    of single features before the linear layer.
    """

    def __init__(
        self,
        hidden_units: int = 64,
        batch_norm: bool = False,
        dropout: float = 0.0,
        data: DataSpec = CIFAR10,
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            conv_block(data.channels, hidden_units, batch_norm, dropout),
            conv_block(hidden_units, hidden_units, batch_norm, dropout),
        )
        self.flatten = nn.Sequential(nn.Flatten())
        if dropout:
            self.flatten.append(nn.Dropout(dropout))
        self.head = nn.Linear(hidden_units * (data.size // 4) ** 2, len(data.classes))

    def features(self, x: Tensor) -> Tensor:
        x = self.blocks(x)  # (B, hidden_units, 8, 8) of 32 x 32
        return self.flatten(x)  # (B, hidden_units * 64)
