"""Cifar10Net and its variants: small tuned networks of which a sweep can afford many.

No convolution is padded, and everything but the head is batch-normed.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu

from src.models import register
from src.models.classifier import Classifier


def conv_block(channels: int, out: int, kernel: int) -> list[nn.Module]:
    """A convolution with a batch norm of its own and ReLU, then a 2x2 max-pool."""
    return [nn.Conv2d(channels, out, kernel), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]


class PairBlock(nn.Module):
    """Two convolutions of one width that share a batch norm, then a 2x2 max-pool.

    residual: beside them goes one convolution whose kernel is as large as both together.
    """

    def __init__(self, channels: int, out: int, kernel: int, *, residual: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, kernel)
        self.second = nn.Conv2d(out, out, kernel)
        self.norm = nn.BatchNorm2d(out)
        self.projection = nn.Conv2d(channels, out, 2 * kernel - 1) if residual else None
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.second(relu(self.norm(self.first(x)))))
        if self.projection is not None:
            y = y + self.projection(x)
        return self.pool(relu(y))


class Cifar10Net(Classifier):
    """Blocks of convolutions, then dense layers of the widths `dense`, then the head.

    flat: numbers that the blocks make of an image. dropout: after each dense layer.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], flat: int, dense: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*blocks, nn.Flatten())
        layers: list[nn.Module] = []
        for inputs, outputs in zip([flat, *dense], dense, strict=False):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.dense = nn.Sequential(*layers)
        self.head = nn.Linear([flat, *dense][-1], 10)

    def features(self, x: Tensor) -> Tensor:
        x = self.convolutions(x)  # (B, flat)
        return self.dense(x)  # (B, last of dense)


def _two_convolutions(dense: Sequence[int], dropout: float) -> Cifar10Net:
    blocks = [*conv_block(3, 20, 3), *conv_block(20, 40, 4)]  # (B, 40, 6, 6)
    return Cifar10Net(blocks, 40 * 6 * 6, dense, dropout)


def _two_pairs(dense: Sequence[int], dropout: float, *, residual: bool = False) -> Cifar10Net:
    blocks = [
        PairBlock(3, 16, 5, residual=residual),  # (B, 16, 12, 12)
        PairBlock(16, 32, 3, residual=residual),  # (B, 32, 4, 4)
    ]
    return Cifar10Net(blocks, 32 * 4 * 4, dense, dropout)


@register("cifar10net")
def cifar10net(fc1: int = 124, fc2: int = 64, dropout: float = 0.0) -> Cifar10Net:
    """201,230 parameters: convolutions 20 (3x3) and 40 (4x4), dense layers 124 and 64."""
    return _two_convolutions((fc1, fc2), dropout)


@register("cifar10net_2")
def cifar10net_2(fc1: int = 32, fc2: int = 16, dropout: float = 0.0) -> Cifar10Net:
    """60,426 parameters: narrower dense layers."""
    return _two_convolutions((fc1, fc2), dropout)


@register("cifar10net_3")
def cifar10net_3() -> Cifar10Net:
    """27,930 parameters: no dense layer but the head."""
    return _two_convolutions((), 0.0)


@register("cifar10net_4")
def cifar10net_4(fc1: int = 64, fc2: int = 32, dropout: float = 0.0) -> Cifar10Net:
    """57,050 parameters: four convolutions 16-16-32-32, 5x5 and 3x3."""
    return _two_pairs((fc1, fc2), dropout)


@register("cifar10net_5")
def cifar10net_5(fc1: int = 32, dropout: float = 0.0) -> Cifar10Net:
    """117,386 parameters: four 3x3 convolutions 32-32-64-64, one dense layer."""
    blocks = [PairBlock(3, 32, 3), PairBlock(32, 64, 3)]  # (B, 64, 5, 5)
    return Cifar10Net(blocks, 64 * 5 * 5, (fc1,), dropout)


@register("cifar10net_6")
def cifar10net_6(fc1: int = 64, fc2: int = 32, dropout: float = 0.0) -> Cifar10Net:
    """73,786 parameters: cifar10net_4 with projected residuals, 9x9 and 5x5."""
    return _two_pairs((fc1, fc2), dropout, residual=True)


@register("cifar10net_7")
def cifar10net_7(fc1: int = 124, fc2: int = 64, dropout: float = 0.5) -> Cifar10Net:
    """201,230 parameters: cifar10net with dropout after both dense layers."""
    return _two_convolutions((fc1, fc2), dropout)


@register("cifar10net_optim")
def cifar10net_optim(fc1: int = 128, fc2: int = 128, dropout: float = 0.46) -> Cifar10Net:
    """216,282 parameters: what the published search found best."""
    return _two_convolutions((fc1, fc2), dropout)
