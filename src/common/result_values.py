"""Values of result.json and pruned.json that several modules read."""

import math
from enum import StrEnum

BEST_VAL_ACCURACY = "best_val_accuracy"
"""The highest validation accuracy of a run, from 0 to 1."""

TEST_ACCURACY = "test_accuracy_best_val_acc"
"""The test accuracy of the weights of that epoch, from 0 to 1."""


class StopReason(StrEnum):
    """Why a training ended."""

    COMPLETED = "completed"
    EARLY_STOPPING = "early stopping"
    PRUNED = "pruned"


def finite(value: object) -> float | None:
    """A number as float. None if it is missing, no number or not finite."""
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]
