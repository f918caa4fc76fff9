"""Successive halving: after which epochs runs are compared, and how many pass."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SuccessiveHalving:
    """Asynchronous successive halving, Li et al. 2020, https://arxiv.org/abs/1810.05934.

    A run goes on past epoch first_rung * reduction ** k, for k = 0, 1, ..., only if its lowest
    validation loss is among the best 1 / reduction of the runs that have come that far. The
    defaults keep the winner rather than save the most: see the table in docs/performance.md.
    """

    first_rung: int = 10
    reduction: int = 2

    def rungs(self, num_epochs: int) -> list[int]:
        """The epochs after which a run of `num_epochs` is compared with others."""
        epochs, epoch = [], self.first_rung
        while epoch < num_epochs:
            epochs.append(epoch)
            epoch *= self.reduction
        return epochs
