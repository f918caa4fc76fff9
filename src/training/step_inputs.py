"""Tensors that a step reads its position, indices and rates from, so that it can be captured once.

A captured step cannot take numbers: those of the first call would be replayed for ever. It reads
them from these tensors, which are filled once an epoch (see cuda_graphs.py).
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class StepInputs:
    """The step within an epoch, and the order and rates of that epoch, on the device."""

    def __init__(
        self, indices: Tensor, steps: int, longest_batch: int, lr_dtype: torch.dtype
    ) -> None:
        device = indices.device
        self.epoch = torch.zeros((), dtype=torch.int64, device=device)
        """From 0."""
        self._step = torch.zeros((1,), dtype=torch.int64, device=device)
        self._order = torch.zeros_like(indices)
        self._lrs = torch.zeros(steps, dtype=lr_dtype, device=device)
        self._ema_shares = torch.zeros(steps, device=device)
        self._offsets = torch.arange(longest_batch, device=device)

    def start_epoch(
        self,
        epoch: int,
        step: int,
        order: Tensor,
        lrs: Sequence[float],
        ema_shares: Sequence[float] | None,
    ) -> None:
        """Fill the tensors for an epoch (from 0), to begin at a step of it (from 0).

        order: all indices of the epoch. lrs, ema_shares: one for each step.
        """
        self._order.copy_(order)
        self._lrs.copy_(torch.tensor(lrs, dtype=self._lrs.dtype))
        if ema_shares is not None:
            self._ema_shares.copy_(torch.tensor(ema_shares))
        self.epoch.fill_(epoch)
        self._step.fill_(step)

    def restart(self) -> None:
        """Begin at step 0, as an evaluation does."""
        self._step.zero_()

    def advance(self) -> None:
        """Go to the next step."""
        self._step += 1

    def positions(self, size: int, batch_size: int) -> Tensor:
        """Where the images of this step are in the epoch: `size` of them, after full batches."""
        return self._step * batch_size + self._offsets[:size]

    def indices(self, size: int, batch_size: int) -> Tensor:
        """The training indices of this step, (size,)."""
        return self._order.index_select(0, self.positions(size, batch_size))

    @property
    def lr(self) -> Tensor:
        """The learning rate of this step, ()."""
        return self._lrs.index_select(0, self._step)[0]

    @property
    def ema_share(self) -> Tensor:
        """The share by which the EMA moves to the weights of this step, ()."""
        return self._ema_shares.index_select(0, self._step)[0]
