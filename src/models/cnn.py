"""CNNBasic, the plain convolutional network of the published sweep."""

from torch import Tensor, nn

from src.data.spec import CIFAR10, DataSpec
from src.models import register
from src.models.classifier import Classifier


def conv_block(channels: int, middle: int, out: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch norm and GELU, then a 2x2 max-pool: (H, W) halved."""
    return nn.Sequential(
        nn.Conv2d(channels, middle, 3, padding=1),
        nn.BatchNorm2d(middle),
        nn.GELU(),
        nn.Conv2d(middle, out, 3, padding=1),
        nn.BatchNorm2d(out),
        nn.GELU(),
        nn.MaxPool2d(2),
    )


@register("cnn")
class CNNBasic(Classifier):
    """13,243,146 parameters. https://github.com/eliasmarcon/CIFAR-10, without its softmax."""

    def __init__(self, dropout: float = 0.15, data: DataSpec = CIFAR10) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            conv_block(data.channels, 48, 96),
            conv_block(96, 192, 256),
            conv_block(256, 512, 512),
        )
        layers: list[nn.Module] = [nn.Dropout(dropout), nn.Flatten()]
        side = data.size // 8
        for inputs, outputs in ((512 * side**2, 1024), (1024, 512), (512, 256)):
            layers += [nn.Linear(inputs, outputs), nn.GELU(), nn.Dropout(dropout)]
        self.dense = nn.Sequential(*layers)
        self.head = nn.Linear(256, len(data.classes))

    def features(self, x: Tensor) -> Tensor:
        x = self.blocks(x)  # (B, 512, 4, 4) of 32 x 32
        return self.dense(x)  # (B, 256)
