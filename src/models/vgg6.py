"""VGG6: the recipe of VGG at the size of CIFAR-10, six convolutions and three dense layers."""

from torch import Tensor, nn

from src.data.spec import CIFAR10, DataSpec
from src.models import register
from src.models.classifier import Classifier


def conv_block(channels: int, out: int) -> nn.Sequential:
    """Two 3x3 convolutions with ReLU, then a 2x2 max-pool: (H, W) halved."""
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(out, out, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


@register("vgg6")
class VGG6(Classifier):
    """34,749,002 parameters. After Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556.

    dropout: after each of the two hidden dense layers.
    """

    def __init__(self, dropout: float = 0.5, data: DataSpec = CIFAR10) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            conv_block(data.channels, 64), conv_block(64, 128), conv_block(128, 256), nn.Flatten()
        )
        self.dense = nn.Sequential(
            nn.Linear(256 * (data.size // 8) ** 2, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(4096, len(data.classes))

    def features(self, x: Tensor) -> Tensor:
        x = self.blocks(x)  # (B, 4096) of 32 x 32
        return self.dense(x)  # (B, 4096)
