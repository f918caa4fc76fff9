"""Early stopping by validation loss."""

import math
from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Stops after `patience` validations in a row without a loss below the lowest so far."""

    patience: int
    best_loss: float = math.inf
    num_bad_validations: int = 0

    def update(self, loss: float) -> bool:
        """Count a validation. Returns whether its loss is the lowest so far."""
        improved = loss < self.best_loss
        self.best_loss = min(self.best_loss, loss)
        self.num_bad_validations = 0 if improved else self.num_bad_validations + 1
        return improved

    @property
    def exhausted(self) -> bool:
        """Whether patience is used up."""
        return self.num_bad_validations >= self.patience
