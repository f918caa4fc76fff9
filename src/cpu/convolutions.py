"""Replace convolutions of a model by faster equivalents, for known sizes of feature maps."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from src.cpu import columns, pointwise, winograd
from src.cpu.columns import ColumnsConv2d
from src.cpu.pointwise import PointwiseConv2d
from src.cpu.whole_map import WholeMapConv2d, covers_whole_map
from src.cpu.winograd import WinogradConv2d

Model = TypeVar("Model", bound=nn.Module)

_Size = tuple[int, int]


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
    decay to these (then call `decay_dead_taps`). algorithm: with winograd and columns, convolutions
    that these suit become WinogradConv2d and ColumnsConv2d.
    """
    for name, (conv, seen, made) in _maps(model, shape).items():
        replacement: nn.Module | None = None
        if covers_whole_map(conv, seen, made):
            whole = WholeMapConv2d(conv, seen, made)
            if dead_taps or not whole.dead_weights:
                replacement = whole
        elif pointwise.suits(conv, seen):
            replacement = PointwiseConv2d(conv)
        elif algorithm == "winograd" and winograd.suits(conv, seen):
            replacement = WinogradConv2d(conv)
        elif algorithm == "columns" and columns.suits(conv, seen):
            replacement = ColumnsConv2d(conv)
        if replacement is not None:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, replacement)
    return model


def _maps(
    model: nn.Module, shape: tuple[int, int, int]
) -> dict[str, tuple[nn.Conv2d, _Size, _Size]]:
    """Every convolution of `model` by name, with (height, width) of its input and output."""
    found: dict[str, tuple[nn.Conv2d, _Size, _Size]] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):

            def note(conv: nn.Conv2d, seen: Any, made: Tensor, name: str = name) -> None:
                found[name] = (conv, _size(seen[0]), _size(made))

            hooks.append(module.register_forward_hook(note))
    if hooks:
        training = model.training
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape))
        model.train(training)
    for hook in hooks:
        hook.remove()
    return found


def _size(maps: Tensor) -> _Size:
    return maps.shape[2], maps.shape[3]
