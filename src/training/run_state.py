"""The state of one run in training, apart from the model: counters, history and kept weights."""

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from src.common.result_values import StopReason
from src.training.early_stopping import EarlyStopping
from src.training.tracker import Row

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class EpochWeights:
    """A copy of the weights, and the epoch (from 1) after which they were copied."""

    epoch: int
    weights: Weights


@dataclass
class RunState:
    """How far a run is. A new one is at the beginning of the run."""

    stopping: EarlyStopping
    epoch: int = 0
    """The current epoch, from 0, or the number of epochs once the run has ended."""
    step: int = 0
    """The next step of that epoch, from 0."""
    rows: list[Row] = field(default_factory=list)
    checkpoints: dict[str, EpochWeights] = field(default_factory=dict)
    """By checkpoint kind: best_val_acc, best_val_loss, terminal."""
    best_val_accuracy: float = -math.inf
    pruner_asked: int = 0
    """The number of epochs after which the pruner was asked last."""
    stop_reason: StopReason | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "validation": 0.0})

    @classmethod
    def start(cls, patience: int) -> "RunState":
        """The beginning of a run. patience: validations without a lower loss before it stops."""
        return cls(EarlyStopping(patience))

    @classmethod
    def load(cls, saved: dict[str, Any], patience: int) -> "RunState":
        """The state that `save` returned."""
        checkpoints = {
            kind: EpochWeights(epoch, weights) for kind, (epoch, weights) in saved["best"].items()
        }
        reason = saved["stop_reason"]
        return cls(
            stopping=EarlyStopping(patience, saved["lowest_loss"], saved["without_gain"]),
            epoch=saved["epoch"],
            step=saved["step"],
            rows=saved["rows"],
            checkpoints=checkpoints,
            best_val_accuracy=saved["best_val_accuracy"],
            pruner_asked=saved.get("pruner_asked", saved["epoch"]),
            stop_reason=None if reason is None else StopReason(reason),
            seconds=saved["seconds"],
        )

    def save(self) -> dict[str, Any]:
        """Numbers, lists and tensors for a resume checkpoint."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "rows": self.rows,
            "best": {kind: [kept.epoch, kept.weights] for kind, kept in self.checkpoints.items()},
            "best_val_accuracy": self.best_val_accuracy,
            "pruner_asked": self.pruner_asked,
            "lowest_loss": self.stopping.best_loss,
            "without_gain": self.stopping.num_bad_validations,
            "stop_reason": None if self.stop_reason is None else self.stop_reason.value,
            "seconds": self.seconds,
        }

    def unprune(self) -> None:
        """Let a pruned run continue: nobody prunes it now, or the pruner judges otherwise."""
        self.stop_reason = None
        del self.checkpoints["terminal"]
