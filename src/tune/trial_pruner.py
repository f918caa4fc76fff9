"""Report runs to the trials of a study; its samplers and pruners."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from src.config import RunConfig

if TYPE_CHECKING:
    import optuna

PRUNERS = ("median", "halving", "none")


class TrialPruner:
    """Reports each epoch of a run to its trial once, and asks the study's pruner."""

    def __init__(self, trial: "optuna.Trial", reported: Sequence[int]) -> None:
        self.trial, self.reported = trial, set(reported)

    def should_prune(self, config: RunConfig, rows: Sequence[dict[str, Any]]) -> bool:
        """Whether the pruner would stop the trial after the last of `rows`."""
        self.report(rows)
        return "val_loss" in rows[-1] and self.trial.should_prune()

    def report(self, rows: Sequence[dict[str, Any]]) -> None:
        """Report the validation losses that the trial does not have yet."""
        for row in rows:
            if "val_loss" in row and row["epoch"] not in self.reported:
                self.trial.report(row["val_loss"], row["epoch"])
                self.reported.add(row["epoch"])


def lowest_loss(rows: Sequence[dict[str, Any]]) -> float:
    """The lowest validation loss of a history."""
    return float(min(row["val_loss"] for row in rows if "val_loss" in row))


def make_sampler(seed: int, number: int) -> "optuna.samplers.BaseSampler":
    """The tree-structured Parzen estimator that draws trial `number`, Bergstra et al. 2011."""
    from optuna.samplers import TPESampler

    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    return TPESampler(seed=int.from_bytes(digest[:4]))


def make_pruner(name: str) -> "optuna.pruners.BasePruner":
    """The pruner with a name of PRUNERS. No trial is stopped after its first epoch (epoch 1)."""
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
    if name == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=3)
    return pruners.NopPruner()
