"""Convolutions on maps so small that every window covers the whole map, as matrix products.

At 32x32 the last stages of the ImageNet-stemmed resnet see maps of 2x2 and 1x1. There a 3x3
convolution is a dense product of all inputs with all outputs, which a matrix product computes
several times as fast as a convolution, and taps of its kernel that only ever meet padding (62 %
of all weights of resnet) have a gradient of exactly zero: they are kept out of the parameters,
and only their weight decay is applied. The function and its result are the same.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from src.cpu.conv_properties import MapSize, autocast_dtype


class WholeMapConv2d(nn.Module):
    """A convolution of (B, I, H, W) to (B, O, P, Q) each of whose windows covers the whole map.

    Its parameter holds the live taps; its state dict has the whole weight of the convolution.
    """

    rest: Tensor

    def __init__(self, conv: nn.Conv2d, size: MapSize, out: MapSize) -> None:
        super().__init__()
        self.out = out
        self.windows = [
            [_window(position, axis, conv, size) for position in range(out[axis])]
            for axis in (0, 1)
        ]  # of the kernel, one for each output row and column
        self.live = tuple(
            slice(min(w.start for w in axis), max(w.stop for w in axis)) for axis in self.windows
        )
        self.register_buffer("rest", conv.weight.detach().clone(), persistent=False)
        self.weight = nn.Parameter(self._cut(self.rest))
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())

    @property
    def dead_weights(self) -> int:
        """How many weights only ever meet padding."""
        return self.rest.numel() - self.weight.numel()

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) to (B, O, P, Q), channels last."""
        dtype = autocast_dtype(x, self.weight.dtype)
        top, left = (axis.start for axis in self.live)
        cuts = [
            (slice(v.start - top, v.stop - top), slice(h.start - left, h.stop - left))
            for v in self.windows[0]
            for h in self.windows[1]
        ]
        matrix = _Matrix.apply(self.weight, cuts, dtype)  # (P * Q * O, H * W * I)
        positions = self.out[0] * self.out[1]
        bias = None if self.bias is None else self.bias.repeat(positions)
        y = linear(x.permute(0, 2, 3, 1).flatten(1), matrix, bias)
        return y.view(len(x), *self.out, -1).permute(0, 3, 1, 2)

    def whole_weight(self) -> Tensor:
        """The weight (O, I, K, L) of the convolution, dead taps included."""
        weight = self.rest.clone()
        self._cut(weight, copy=False).copy_(self.weight.detach())
        return weight

    def _cut(self, weight: Tensor, *, copy: bool = True) -> Tensor:
        live = weight[:, :, self.live[0], self.live[1]]
        return live.clone(memory_format=torch.contiguous_format) if copy else live

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.whole_weight()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        name = f"{prefix}weight"
        whole = state.get(name)
        if whole is not None and whole.shape == self.rest.shape:
            self.rest.copy_(whole)
            state = {**state, name: self._cut(whole)}
        super()._load_from_state_dict(state, prefix, *others)


class _Matrix(torch.autograd.Function):
    """The cuts (O, I, H, W) of a weight as matrices (O, H * W * I) of a type, below each other.

    Cuts overlap: the gradient is their sum, made in place in the type of the weight. Left to
    autograd, each cut's is first laid into zeros of the size of the weight.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, cuts: list[tuple[slice, slice]], dtype: torch.dtype
    ) -> Tensor:
        ctx.shape, ctx.dtype, ctx.cuts = weight.shape, weight.dtype, cuts
        last = weight.to(dtype).permute(0, 2, 3, 1)  # before it is repeated
        return torch.cat([last[:, v, h].flatten(1) for v, h in cuts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        outputs, inputs, height, width = ctx.shape
        total = torch.zeros(
            outputs, height, width, inputs, dtype=ctx.dtype, device=grad_output.device
        )
        for part, (v, h) in zip(grad_output.split(outputs), ctx.cuts, strict=True):
            cut = total[:, v, h]
            cut += part.view(cut.shape)
        return total.permute(0, 3, 1, 2), None, None


def decay_dead_taps(model: nn.Module, factor: float) -> None:
    """Scale the dead taps of `model`, as decoupled weight decay does to all weights."""
    for module in _replaced(model):
        if module.dead_weights:
            module.rest.mul_(factor)


def count_parameters(model: nn.Module) -> int:
    """Parameters of the model as it is published, dead taps included."""
    own = sum(parameter.numel() for parameter in model.parameters())
    return own + sum(module.dead_weights for module in _replaced(model))


def _replaced(model: nn.Module) -> Iterator[WholeMapConv2d]:
    return (module for module in model.modules() if isinstance(module, WholeMapConv2d))


def covers_whole_map(conv: nn.Conv2d, input_size: MapSize, output_size: MapSize) -> bool:
    """Whether every window of a convolution covers its whole input."""
    if conv.groups != 1 or conv.dilation != (1, 1) or conv.padding_mode != "zeros":
        return False
    if isinstance(conv.padding, str):
        return False
    return all(
        0
        <= conv.padding[axis] - position * conv.stride[axis]
        <= conv.kernel_size[axis] - input_size[axis]
        for axis in (0, 1)
        for position in range(output_size[axis])
    )


def _window(position: int, axis: int, conv: nn.Conv2d, size: MapSize) -> slice:
    """The taps that output `position` lays on the map, along an axis."""
    first = int(conv.padding[axis]) - position * conv.stride[axis]
    return slice(first, first + size[axis])
