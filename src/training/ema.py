"""Exponential moving average (EMA) of a model's weights, evaluated in place of the model."""

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class ExponentialMovingAverage(Generic[Model]):
    """The EMA of `source`: a copy of it, `model`, whose weights follow its weights."""

    def __init__(self, source: Model) -> None:
        self.model = deepcopy(source).requires_grad_(False).eval()
        self._pairs = [*_tensors(self.model, source)]

    @torch.no_grad()
    def update(self, share: Tensor) -> None:
        """Move towards the weights by `share`, a number on the device. Copies integer buffers."""
        for average, current in self._pairs:
            if average.is_floating_point():
                average.lerp_(current.detach(), share.to(average.dtype))
            else:
                average.copy_(current)


def update_share(decay: float, step: int) -> float:
    """The share by which the average moves towards the weights after a step (from 0).

    1 - min(decay, (1 + t) / (10 + t)): at first in longer strides, away from the random weights,
    as tf.train.ExponentialMovingAverage does with num_updates.
    """
    return 1 - min(decay, (1 + step) / (10 + step))


def _tensors(average: nn.Module, source: nn.Module) -> "zip[tuple[Tensor, Tensor]]":
    def all_of(model: nn.Module) -> list[Tensor]:
        return [*model.parameters(), *model.buffers()]

    return zip(all_of(average), all_of(source), strict=True)
