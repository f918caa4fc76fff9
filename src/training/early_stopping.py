"""Early stopping by validation loss."""

import math
from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Stops after `patience` validations in a row without a loss below the lowest so far."""

    patience: int
    lowest: float = math.inf
    without_gain: int = 0

    def update(self, loss: float) -> bool:
        """Count a validation. Returns whether its loss is the lowest so far."""
        improved = loss < self.lowest
        self.lowest = min(self.lowest, loss)
        self.without_gain = 0 if improved else self.without_gain + 1
        return improved

    @property
    def exhausted(self) -> bool:
        """Whether patience is used up."""
        return self.without_gain >= self.patience
