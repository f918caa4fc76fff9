"""ResNet-18 as the published sweep has it: an ImageNet stem, and biases in all convolutions."""

from torch import Tensor, nn
from torch.nn.functional import relu

from src.data.spec import CIFAR10, DataSpec
from src.models import register
from src.models.classifier import Classifier


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, projected where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, padding=1),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.residual(x) + self.shortcut(x))


@register("resnet")
class ResNet(Classifier):
    """11,186,442 parameters. He et al. 2016, https://arxiv.org/abs/1512.03385, [2, 2, 2, 2]."""

    def __init__(self, data: DataSpec = CIFAR10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(data.channels, 64, 7, stride=2, padding=3),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks: list[nn.Module] = []
        width = 64
        for out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [BasicBlock(width, out, stride), BasicBlock(out, out, 1)]
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(512, len(data.classes))

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (B, 64, 8, 8) of 32 x 32
        x = self.blocks(x)  # (B, 512, 1, 1)
        return self.pool(x)  # (B, 512)
