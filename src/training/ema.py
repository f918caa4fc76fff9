"""An exponential moving average of a model's weights, which is evaluated in its place."""

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class ExponentialMovingAverage(Generic[Model]):
    """`model`, a copy of `source` whose weights follow those of it."""

    def __init__(self, source: Model) -> None:
        self.model = deepcopy(source).requires_grad_(False).eval()
        self._pairs = [*_tensors(self.model, source)]

    @torch.no_grad()
    def update(self, share: Tensor) -> None:
        """Move by `share` (a number on the device) of the way; counters are copied."""
        for average, now in self._pairs:
            if average.is_floating_point():
                average.lerp_(now.detach(), share.to(average.dtype))
            else:
                average.copy_(now)


def update_share(decay: float, step: int) -> float:
    """How far the average moves after step `step` (from 0) of the run.

    1 - min(decay, (1 + t) / (10 + t)): at first in longer strides, away from the random weights,
    as tf.train.ExponentialMovingAverage does with num_updates.
    """
    return 1 - min(decay, (1 + step) / (10 + step))


def _tensors(average: nn.Module, source: nn.Module) -> "zip[tuple[Tensor, Tensor]]":
    def all_of(model: nn.Module) -> list[Tensor]:
        return [*model.parameters(), *model.buffers()]

    return zip(all_of(average), all_of(source), strict=True)
