"""Prune runs by successive halving, among runs of the same schedule."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.common import paths
from src.common.errors import UserError
from src.config import RunConfig
from src.pruning.halving import SuccessiveHalving
from src.runs.damaged_files import name_once
from src.runs.run_folder import RunFolder, all_runs

if TYPE_CHECKING:
    import optuna

_COMPARABLE = (
    *("data_name", "max_images", "val_split", "val_size", "split_seed"),
    *("model_name", "data_augmentation", "num_epochs"),
    *("scheduler", "gamma", "step_size", "t_max", "eta_min"),
    *("model_digest", "pct_start", "div_factor", "final_div_factor", "anneal_strategy"),
)
"""Runs are compared only if these are equal: a slow schedule is no disadvantage, and the losses are
of the same images."""


class SuccessiveHalvingPruner:
    """Compares a run with all others under `runs_dir`, whichever process trained them."""

    def __init__(self, halving: SuccessiveHalving, runs_dir: Path) -> None:
        self.halving, self.runs_dir = halving, runs_dir
        self._schedules: dict[Path, str | None] = {}
        self._histories: dict[Path, tuple[tuple[int, int], list[dict[str, Any]]]] = {}

    def should_prune(self, config: RunConfig, rows: Sequence[dict[str, Any]]) -> bool:
        """Whether to stop a run, which is compared once per rung, at the next validation."""
        validated = [row["epoch"] for row in rows if "val_loss" in row]
        if not validated or rows[-1]["epoch"] != validated[-1]:
            return False
        before = validated[-2] if len(validated) > 1 else 0
        rungs = self.halving.rungs(config.num_epochs)
        if not any(before < rung <= validated[-1] for rung in rungs):
            return False
        study = self._study()
        for peer in self._peers(config):
            _replay(study, peer)
        return _replay(study, rows)

    def _study(self) -> "optuna.Study":
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner = optuna.pruners.SuccessiveHalvingPruner(
            min_resource=self.halving.first_rung, reduction_factor=self.halving.reduction
        )
        return optuna.create_study(pruner=pruner)

    def _peers(self, config: RunConfig) -> Iterator[list[dict[str, Any]]]:
        """The histories of all other runs of the same schedule."""
        own_schedule = schedule(config)
        for folder in all_runs(self.runs_dir, config.model_name):
            if folder.path.name.endswith(f"-{config.id}"):
                continue
            if folder.path not in self._schedules:
                self._schedules[folder.path] = _schedule_of(folder)
            if self._schedules[folder.path] == own_schedule:
                yield self._history(folder)

    def _history(self, folder: RunFolder) -> list[dict[str, Any]]:
        """The history of a run, read again only if its file was replaced since the last time."""
        try:
            file = (folder.path / paths.HISTORY).stat()
        except FileNotFoundError:
            return []
        version = (file.st_ino, file.st_mtime_ns)
        known = self._histories.get(folder.path)
        if known is None or known[0] != version:
            known = self._histories[folder.path] = (version, _readable_history(folder))
        return known[1]


def _readable_history(folder: RunFolder) -> list[dict[str, Any]]:
    """A history; empty if it is damaged, which must not stop other runs."""
    try:
        return folder.history()
    except ValueError:
        name_once(folder.path / paths.HISTORY, "the run is not compared with others")
        return []


def _replay(study: "optuna.Study", rows: Sequence[dict[str, Any]]) -> bool:
    """Report the epochs of a run to a study. Returns whether its pruner stops it at the last."""
    trial, lowest, prune = study.ask(), float("inf"), False
    for row in rows:
        if "val_loss" in row:
            lowest = min(lowest, row["val_loss"])
            trial.report(lowest, row["epoch"])
            prune = trial.should_prune()
    return prune


def schedule(config: RunConfig) -> str:
    """Equal for runs that are compared with each other."""
    run = config.canonical()
    return json.dumps([getattr(run, name) for name in _COMPARABLE])


def _schedule_of(folder: RunFolder) -> str | None:
    try:
        return schedule(folder.run_config())
    except UserError:
        return None
