"""Cifar10Net and its variants: small tuned networks of which a sweep can afford many.

No convolution is padded, and everything but the head is batch-normed.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu

from src.common.errors import UserError
from src.data.spec import CIFAR10, DataSpec
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
        self,
        blocks: Sequence[nn.Module],
        flat: int,
        dense: Sequence[int],
        dropout: float,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*blocks, nn.Flatten())
        layers: list[nn.Module] = []
        for inputs, outputs in zip([flat, *dense], dense, strict=False):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.dense = nn.Sequential(*layers)
        self.head = nn.Linear([flat, *dense][-1], num_classes)

    def features(self, x: Tensor) -> Tensor:
        x = self.convolutions(x)  # (B, flat)
        return self.dense(x)  # (B, last of dense)


def _side(image_size: int, *kernels: Sequence[int]) -> int:
    """The side of the maps after groups of unpadded convolutions, each followed by a 2x2 pool.

    kernels: the sizes of the kernels of each group. Raises UserError if nothing is left.
    """
    side = image_size
    for group in kernels:
        side = (side - sum(kernel - 1 for kernel in group)) // 2
    if side < 1:
        raise UserError(
            f"--model_type: the unpadded convolutions of this cifar10net leave nothing of images "
            f"of {image_size} x {image_size}; expected larger ones"
        )
    return side


def _two_convolutions(dense: Sequence[int], dropout: float, data: DataSpec) -> Cifar10Net:
    blocks = [*conv_block(data.channels, 20, 3), *conv_block(20, 40, 4)]
    side = _side(data.size, (3,), (4,))  # 6 of 32
    return Cifar10Net(blocks, 40 * side**2, dense, dropout, len(data.classes))


def _two_pairs(
    dense: Sequence[int],
    dropout: float,
    data: DataSpec,
    *,
    widths: tuple[int, int] = (16, 32),
    kernels: tuple[int, int] = (5, 3),
    residual: bool = False,
) -> Cifar10Net:
    blocks = [
        PairBlock(inputs, out, kernel, residual=residual)
        for inputs, out, kernel in zip((data.channels, widths[0]), widths, kernels, strict=True)
    ]
    side = _side(data.size, *((kernel, kernel) for kernel in kernels))  # 4 or 5 of 32
    return Cifar10Net(blocks, widths[1] * side**2, dense, dropout, len(data.classes))


@register("cifar10net")
def cifar10net(
    fc1: int = 124, fc2: int = 64, dropout: float = 0.0, data: DataSpec = CIFAR10
) -> Cifar10Net:
    """201,230 parameters: convolutions 20 (3x3) and 40 (4x4), dense layers 124 and 64."""
    return _two_convolutions((fc1, fc2), dropout, data)


@register("cifar10net_2")
def cifar10net_2(
    fc1: int = 32, fc2: int = 16, dropout: float = 0.0, data: DataSpec = CIFAR10
) -> Cifar10Net:
    """60,426 parameters: narrower dense layers."""
    return _two_convolutions((fc1, fc2), dropout, data)


@register("cifar10net_3")
def cifar10net_3(data: DataSpec = CIFAR10) -> Cifar10Net:
    """27,930 parameters: no dense layer but the head."""
    return _two_convolutions((), 0.0, data)


@register("cifar10net_4")
def cifar10net_4(
    fc1: int = 64, fc2: int = 32, dropout: float = 0.0, data: DataSpec = CIFAR10
) -> Cifar10Net:
    """57,050 parameters: four convolutions 16-16-32-32, 5x5 and 3x3."""
    return _two_pairs((fc1, fc2), dropout, data)


@register("cifar10net_5")
def cifar10net_5(fc1: int = 32, dropout: float = 0.0, data: DataSpec = CIFAR10) -> Cifar10Net:
    """117,386 parameters: four 3x3 convolutions 32-32-64-64, one dense layer."""
    return _two_pairs((fc1,), dropout, data, widths=(32, 64), kernels=(3, 3))


@register("cifar10net_6")
def cifar10net_6(
    fc1: int = 64, fc2: int = 32, dropout: float = 0.0, data: DataSpec = CIFAR10
) -> Cifar10Net:
    """73,786 parameters: cifar10net_4 with projected residuals, 9x9 and 5x5."""
    return _two_pairs((fc1, fc2), dropout, data, residual=True)


@register("cifar10net_7")
def cifar10net_7(
    fc1: int = 124, fc2: int = 64, dropout: float = 0.5, data: DataSpec = CIFAR10
) -> Cifar10Net:
    """201,230 parameters: cifar10net with dropout after both dense layers."""
    return _two_convolutions((fc1, fc2), dropout, data)


@register("cifar10net_optim")
def cifar10net_optim(
    fc1: int = 128, fc2: int = 128, dropout: float = 0.46, data: DataSpec = CIFAR10
) -> Cifar10Net:
    """216,282 parameters: what the published search found best."""
    return _two_convolutions((fc1, fc2), dropout, data)
