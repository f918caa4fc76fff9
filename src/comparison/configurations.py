"""Configurations: runs that differ in their seed alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.common.errors import UserError
from src.common.result_values import BEST_VAL_ACCURACY, TEST_ACCURACY, finite
from src.config import RunConfig
from src.faults.failure_classes import FailureClass, recorded_class
from src.runs.run_folder import DEFAULT_RETRIES, RunFolder, all_runs
from src.runs.snapshot import Snapshot, State


@dataclass(frozen=True)
class Replicate:
    """One run of a configuration."""

    config: RunConfig
    folder: RunFolder
    state: State
    result: Mapping[str, Any] = field(default_factory=dict)
    """Empty if it is not done."""
    has_diverged: bool = False
    is_given_up: bool = False
    """Whether it has failed and is not tried again."""

    @property
    def validation(self) -> float | None:
        """Its best validation accuracy. None if it is not done."""
        return finite(self.result.get(BEST_VAL_ACCURACY))

    @property
    def test(self) -> float | None:
        """The test accuracy of its best weights. None if it is not done."""
        return finite(self.result.get(TEST_ACCURACY))

    @property
    def seconds(self) -> float | None:
        """Its training time. None if it is not done."""
        return finite(self.result.get("train_seconds"))


@dataclass(frozen=True)
class Configuration:
    """All runs that differ in their seed alone."""

    id: str
    config: RunConfig
    """The settings; its seed means nothing."""
    replicates: Mapping[int, Replicate]
    """By seed."""

    @property
    def model(self) -> str:
        """Its architecture, and its data set if that is not CIFAR-10."""
        return self.config.group

    def done(self, seeds: Sequence[int] | None = None) -> list[Replicate]:
        """The finished replicates, or those with these seeds, in the order of the seeds."""
        wanted = sorted(self.replicates) if seeds is None else seeds
        runs = (self.replicates[seed] for seed in wanted if seed in self.replicates)
        return [run for run in runs if run.validation is not None and run.test is not None]


def validations(runs: Iterable[Replicate]) -> list[float]:
    """The best validation accuracies of the runs that have one."""
    return [run.validation for run in runs if run.validation is not None]


def tests(runs: Iterable[Replicate]) -> list[float]:
    """The test accuracies of the runs that have one."""
    return [run.test for run in runs if run.test is not None]


def read_configurations(runs_dir: Path, model: str = "*") -> dict[str, Configuration]:
    """Every configuration under `runs_dir`, or those of an architecture, by id.

    Runs on synthetic data are left out where there are runs on real data, as in the table.
    Raises UserError if `runs_dir` is missing.
    """
    replicates = list(_replicates(runs_dir, model))
    real = [run for run in replicates if not run.config.is_synthetic]
    by_id: dict[str, dict[int, Replicate]] = {}
    for run in real or replicates:
        by_id.setdefault(run.config.config_id, {})[run.config.seed] = run
    return {
        config_id: Configuration(config_id, next(iter(members.values())).config, members)
        for config_id, members in by_id.items()
    }


def _replicates(runs_dir: Path, model: str) -> Iterator[Replicate]:
    for folder in all_runs(runs_dir, model):
        try:
            config = folder.run_config()
        except UserError:
            continue  # aggregate names it
        if not folder.path.name.endswith(f"-{config.id}"):
            continue
        snapshot = Snapshot(folder.path)
        failure = folder.failure() if snapshot.state == State.FAILED else None
        yield Replicate(
            config=config,
            folder=folder,
            state=snapshot.state,
            result=snapshot.result or {},
            has_diverged=failure is not None and recorded_class(failure) == FailureClass.DIVERGED,
            is_given_up=failure is not None and folder.is_given_up(DEFAULT_RETRIES),
        )
