"""ResNet-9, the network of the DAWNBench CIFAR-10 entries, with dropout."""

from collections.abc import Mapping

from torch import Tensor, nn

from src.data.spec import CIFAR10, DataSpec
from src.models import register
from src.models.classifier import Classifier


def conv_block(channels: int, out: int, dropout: float, *, pool: bool = False) -> nn.Sequential:
    """3x3 convolution, [2x2 max-pool,] batch norm, ReLU, dropout."""
    layers: list[nn.Module] = [nn.Conv2d(channels, out, 3, padding=1, bias=False)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    layers += [nn.BatchNorm2d(out), nn.ReLU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


class ResidualStage(nn.Module):
    """A pooled convolution, and two more beside a shortcut: (B, I, H, W) to (B, O, H/2, W/2)."""

    def __init__(self, channels: int, out: int, dropout: float) -> None:
        super().__init__()
        self.reduce = conv_block(channels, out, dropout, pool=True)
        self.residual = nn.Sequential(conv_block(out, out, dropout), conv_block(out, out, dropout))

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        return x + self.residual(x)


@register("resnet9")
class ResNet9(Classifier):
    """6,573,120 parameters. Page 2018, https://myrtle.ai/how-to-train-your-resnet, width 64.

    dropout: after every convolution block.
    """

    evaluation_batch: Mapping[str, int] = {
        "cpu": 250,
        "cuda": 1000,
    }  # its first block: 524 MB on a GPU

    def __init__(self, dropout: float = 0.0, data: DataSpec = CIFAR10) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            conv_block(data.channels, 64, dropout),  # (B, 64, 32, 32) of 32 x 32
            ResidualStage(64, 128, dropout),  # (B, 128, 16, 16)
            conv_block(128, 256, dropout, pool=True),  # (B, 256, 8, 8)
            ResidualStage(256, 512, dropout),  # (B, 512, 4, 4)
        )
        self.pool = nn.Sequential(nn.MaxPool2d(data.size // 8), nn.Flatten())
        self.head = nn.Linear(512, len(data.classes), bias=False)

    def features(self, x: Tensor) -> Tensor:
        return self.pool(self.stages(x))  # (B, 512)
