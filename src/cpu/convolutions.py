"""Replace convolutions of a model by faster equivalents, for known sizes of feature maps."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from src.cpu import columns, pointwise, winograd
from src.cpu.columns import ColumnsConv2d
from src.cpu.conv_properties import MapSize
from src.cpu.pointwise import PointwiseConv2d
from src.cpu.whole_map import WholeMapConv2d, covers_whole_map
from src.cpu.winograd import WinogradConv2d

Model = TypeVar("Model", bound=nn.Module)


def replace_convolutions(
    model: Model,
    shape: tuple[int, int, int] = (3, 32, 32),
    *,
    dead_taps: bool = True,
    algorithm: str = "direct",
) -> Model:
    """Replace convolutions of `model` in place, for images of a shape (channels, height, width).

    Whole-map convolutions, and 1x1 ones of small maps, become matrix products. dead_taps: also
    those with taps that only meet padding; the optimizer must apply nothing but decoupled weight
    decay to these (then call `decay_dead_taps`). algorithm: winograd and columns replace the
    convolutions for which they are faster by WinogradConv2d and ColumnsConv2d.
    """
    for name, (conv, input_size, output_size) in _maps(model, shape).items():
        replacement: nn.Module | None = None
        if covers_whole_map(conv, input_size, output_size):
            whole = WholeMapConv2d(conv, input_size, output_size)
            if dead_taps or not whole.dead_weights:
                replacement = whole
        elif pointwise.is_faster_for(conv, input_size):
            replacement = PointwiseConv2d(conv)
        elif algorithm == "winograd" and winograd.is_faster_for(conv, input_size):
            replacement = WinogradConv2d(conv)
        elif algorithm == "columns" and columns.is_faster_for(conv, input_size):
            replacement = ColumnsConv2d(conv)
        if replacement is not None:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, replacement)
    return model


def _maps(
    model: nn.Module, shape: tuple[int, int, int]
) -> dict[str, tuple[nn.Conv2d, MapSize, MapSize]]:
    """Every convolution of `model` by name, with (height, width) of its input and output."""
    maps: dict[str, tuple[nn.Conv2d, MapSize, MapSize]] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):

            def note(conv: nn.Conv2d, inputs: Any, output: Tensor, name: str = name) -> None:
                maps[name] = (conv, _size(inputs[0]), _size(output))

            hooks.append(module.register_forward_hook(note))
    if hooks:
        training = model.training
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape))
        model.train(training)
    for hook in hooks:
        hook.remove()
    return maps


def _size(maps: Tensor) -> MapSize:
    return maps.shape[2], maps.shape[3]
