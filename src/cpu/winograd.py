"""3x3 convolutions by Winograd's algorithm, for CPUs: a quarter of the multiplications.

F(4x4, 3x3) of Lavin & Gray 2015, https://arxiv.org/abs/1509.09308: a tile of 6x6 inputs and the
kernel are each transformed to 36 values, in which the convolution is a product for each value; of
these, 4x4 outputs are made. The 36 products are matrix products over channels. The function is
the same; in float32 its results and gradients differ from those of a convolution by a few
millionths. Lower precisions are computed in float32, since the transforms cancel large numbers.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from src.cpu.conv_properties import MapSize, autocast_dtype, is_plain_3x3

_OUT = 4  # outputs of a tile, along a side
_IN = 6  # its inputs: those and the kernel's reach
_MIN_CHANNELS = 48  # with fewer, the transforms cost what the products save: benchmarks/LOG.md

# transforms of inputs, of kernels, and of their products to outputs, named as in the paper
B_T = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
A_T = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


def _both_sides(matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """The matrix that transforms a flattened square as `matrix` does its rows and columns."""
    sides = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(sides, sides).float()


class WinogradConv2d(nn.Module):
    """A convolution of (B, I, H, W) to (B, O, H, W), channels last: see `is_faster_for`.

    It has the parameters of the convolution that it is made of, and makes no second derivatives.
    """

    b_t: Tensor
    g: Tensor
    a_t: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias
        for name, matrix in (
            ("b_t", B_T),  # (36, 36)
            ("g", G),  # (36, 9)
            ("a_t", A_T),  # (16, 36)
        ):
            self.register_buffer(name, _both_sides(matrix), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) to (B, O, H, W), in the dtype of autocast if that is on."""
        dtype = autocast_dtype(x, x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = _Product.apply(x.float(), self.weight, self.b_t, self.g, self.a_t)
            if self.bias is not None:
                y = y + self.bias.view(-1, 1, 1)
            return y.to(dtype)


class _Product(torch.autograd.Function):
    """The convolution. Shapes: T tiles of all images; 36 input and 16 output positions per tile."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, b_t: Tensor, g: Tensor, a_t: Tensor) -> Tensor:
        batch, inputs, height, width = x.shape
        outputs, rows, columns = len(weight), height // _OUT, width // _OUT
        tiles = _tiles(pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)))  # (T, 36, I)
        kernel = weight.permute(0, 2, 3, 1).reshape(outputs, 9, inputs)
        v = torch.matmul(b_t, tiles).transpose(0, 1)  # (36, T, I)
        u = torch.matmul(g, kernel).permute(1, 2, 0)  # (36, I, O)
        y = torch.matmul(a_t, torch.bmm(v, u).transpose(0, 1))  # (T, 16, O)
        ctx.save_for_backward(v, u, b_t, g, a_t)
        y = y.view(batch, rows, columns, _OUT, _OUT, outputs).transpose(2, 3)
        return y.reshape(batch, height, width, outputs).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        device_type = grad_output.device.type
        with torch.autocast(device_type, enabled=False):  # the transforms cancel large numbers
            return _Product._gradients(ctx, grad_output)

    @staticmethod
    def _gradients(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        v, u, b_t, g, a_t = ctx.saved_tensors
        batch, outputs, height, width = grad_output.shape
        rows, columns, inputs = height // _OUT, width // _OUT, u.shape[1]
        tiles = grad_output.permute(0, 2, 3, 1).reshape(batch, rows, _OUT, columns, _OUT, outputs)
        tiles = tiles.transpose(2, 3).reshape(-1, _OUT * _OUT, outputs)
        m = torch.matmul(a_t.t(), tiles).transpose(0, 1)  # (36, T, O)
        grad_input = grad_weight = None
        if ctx.needs_input_grad[0]:
            tiles = torch.matmul(b_t.t(), torch.bmm(m, u.transpose(1, 2)).transpose(0, 1))
            grad_input = _sum_of_tiles(tiles.view(batch, rows, columns, _IN, _IN, inputs))
        if ctx.needs_input_grad[1]:
            kernel = torch.matmul(g.t(), torch.bmm(m.transpose(1, 2), v).transpose(0, 1))
            grad_weight = kernel.view(outputs, 3, 3, inputs).permute(0, 3, 1, 2)
        return grad_input, grad_weight, None, None, None


def _tiles(padded: Tensor) -> Tensor:
    """The 6x6 tiles of maps (B, H + 2, W + 2, C), one every 4 places: (T, 36, C)."""
    tiles = padded.unfold(1, _IN, _OUT).unfold(2, _IN, _OUT)  # (B, rows, columns, C, 6, 6)
    return tiles.permute(0, 1, 2, 4, 5, 3).reshape(-1, _IN * _IN, padded.shape[3])


def _sum_of_tiles(tiles: Tensor) -> Tensor:
    """Maps (B, C, H, W), channels last, of tiles (B, rows, columns, 6, 6, C) that overlap by 2.

    The transpose of padding and `_tiles`. No two writes of one operation meet, so that the sum
    is the same each time.
    """
    batch, rows, columns, _, _, channels = tiles.shape
    padded = tiles.new_zeros(batch, (rows + 1) * _OUT, (columns + 1) * _OUT, channels)
    blocks = padded.view(batch, rows + 1, _OUT, columns + 1, _OUT, channels)
    tiles = tiles.transpose(2, 3)  # (B, rows, 6, columns, 6, C)
    blocks[:, :rows, :, :columns] = tiles[:, :, :_OUT, :, :_OUT]
    blocks[:, 1:, :2, :columns] += tiles[:, :, _OUT:, :, :_OUT]
    blocks[:, :rows, :, 1:, :2] += tiles[:, :, :_OUT, :, _OUT:]
    blocks[:, 1:, :2, 1:, :2] += tiles[:, :, _OUT:, :, _OUT:]
    inside = padded[:, 1 : rows * _OUT + 1, 1 : columns * _OUT + 1]
    return inside.permute(0, 3, 1, 2)


def is_faster_for(conv: nn.Conv2d, input_size: MapSize) -> bool:
    """Whether Winograd's algorithm is possible, and faster than the library's convolution."""
    return (
        is_plain_3x3(conv)
        and min(conv.in_channels, conv.out_channels) >= _MIN_CHANNELS
        and all(side % _OUT == 0 for side in input_size)
    )
