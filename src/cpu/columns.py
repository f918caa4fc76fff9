"""3x3 convolutions in bfloat16 on a CPU whose weight gradient is a matrix product of columns.

On maps of at most 8x8 with 128 channels or more the library's weight gradient runs at a third of
the speed of its matrix products. Here every position's nine neighbours are laid out as one row of a
matrix (im2col), as many rows at a time as stay in the processor's cache, and multiplied with the
gradient of the output. The parts are added up in float32. Forward, and for the gradient of the
input, it is the library's convolution.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, pad

from src.cpu.conv_properties import MapSize, autocast_dtype, is_plain_3x3

_MIN_CHANNELS = 128
_MAX_POSITIONS = 64  # of a map
_MAX_COLUMN_ELEMENTS = 5_000_000  # elements laid out at a time, 10 MB: benchmarks/LOG.md


class ColumnsConv2d(nn.Module):
    """A convolution of (B, I, H, W) to (B, O, H, W), channels last: see `is_faster_for`.

    It has the parameters of the convolution that it is made of, and makes no second derivatives.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) to (B, O, H, W), in the dtype of autocast if that is on."""
        dtype = autocast_dtype(x, x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = _Convolution.apply(x.to(dtype), self.weight, self.bias)
            return y


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        return conv2d(x, weight, None if bias is None else bias.to(x.dtype), padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_output = grad_output.contiguous(memory_format=torch.channels_last)
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            sides, wanted = [1, 1], [True, False, False]
            grad_input = torch.ops.aten.convolution_backward(
                *(grad_output, x, weight, None, sides, sides, sides, False, [0, 0], 1, wanted)
            )[0]
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(x, grad_output)
        if ctx.needs_input_grad[2]:
            grad_bias = grad_output.sum((0, 2, 3), dtype=torch.float32)
        return grad_input, grad_weight, grad_bias


def _weight_gradient(x: Tensor, grad_output: Tensor) -> Tensor:
    """The gradient (O, I, 3, 3), float32, for inputs (B, I, H, W) and that of the outputs."""
    _, inputs, height, width = x.shape
    outputs = grad_output.shape[1]
    total = grad_output.new_zeros(outputs, 9 * inputs, dtype=torch.float32)
    images = max(1, _MAX_COLUMN_ELEMENTS // (9 * inputs * height * width))
    for inputs_part, grad_part in zip(x.split(images), grad_output.split(images), strict=True):
        padded = pad(inputs_part.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        image, row, pixel, _ = padded.stride()
        # three pixels side by side are one stretch of memory
        shape, steps = (len(inputs_part), height, width, 3, 3 * inputs), (image, row, pixel, row, 1)
        columns = padded.as_strided(shape, steps).reshape(-1, 9 * inputs)
        rows = grad_part.permute(0, 2, 3, 1).reshape(-1, outputs)
        total += rows.t().contiguous() @ columns
    return total.view(outputs, 3, 3, inputs).permute(0, 3, 1, 2)


def is_faster_for(conv: nn.Conv2d, input_size: MapSize) -> bool:
    """Whether the columns are possible, and faster than the library's convolution."""
    return (
        is_plain_3x3(conv)
        and min(conv.in_channels, conv.out_channels) >= _MIN_CHANNELS
        and input_size[0] * input_size[1] <= _MAX_POSITIONS
    )
