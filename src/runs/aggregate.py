"""Merge run folders into one table: clean_runs.csv."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd

from src.common import files
from src.common.errors import UserError
from src.common.progress import ShowProgress, silent
from src.common.temporary_files import remove_abandoned_files
from src.config import (
    CHECKPOINT_KINDS,
    SCHEDULERS,
    RunConfig,
    from_mapping,
    model_types,
)
from src.data.spec import CLASSES
from src.faults.failure_classes import FailureClass, recorded_class
from src.runs.run_folder import RunFolder, all_runs
from src.runs.snapshot import Snapshot, State


def _columns() -> list[str]:
    columns = ["Modelname", "Group", "Full_Modelname"]
    columns += ["augmentation", "gamma", "learning_rate", "scheduler", "weight_decay"]
    for kind in CHECKPOINT_KINDS:
        columns += [f"test_accuracy_{kind}", f"test_loss_{kind}"]
        columns += [f"test_per_class_accuracy_{kind}"]
        columns += [f"test_per_class_accuracy_{name}_{kind}" for name in CLASSES]
    for part in ("train", "val"):
        columns += [f"{part}_accuracy", f"{part}_loss", f"{part}_per_class_accuracy"]
        columns += [f"{part}_per_class_accuracy_{name}" for name in CLASSES]
    return columns


PUBLISHED_COLUMNS = tuple(_columns())
"""Columns of the published sweep's clean_runs.csv. Accuracies are shares from 0 to 1."""

OUR_COLUMNS = (
    "run_id",
    "alias_of",
    "seed",
    "num_epochs",
    "batch_size",
    "epochs_run",
    "best_epoch",
    "best_val_accuracy",
    "stop_reason",
    "train_seconds",
    "images_per_second",
    "precision",
    "device",
    "git_commit",
    "test_images",
    "config_id",
    "data_digest",
    "dataset",
)
"""Columns after these: `test_per_class_accuracy_CLASS_...` for classes that CIFAR-10 lacks, then
settings that a run of the table has changed from their default, empty where they are not used."""

_IN_OTHER_COLUMNS = ("model_type", "model_digest", "data_augmentation", "precision")

_OF_CLASS = re.compile(rf"test_per_class_accuracy_.+_({'|'.join(CHECKPOINT_KINDS)})")


@dataclass(frozen=True)
class Collected:
    """The table of finished runs, the number of runs in each state, and what was left out."""

    table: pd.DataFrame
    states: dict[str, Counter[State]]
    """Runs in each state, by architecture and data set: `RunConfig.group`."""
    synthetic: int
    """Number of runs left out because they are on synthetic data."""
    unreadable: list[str]
    """One line for each run folder, and each cell of another one, that cannot be read."""
    failed: pd.DataFrame = field(default_factory=pd.DataFrame)
    """A row for each cell of a failed run: its settings, and in `failure` its class."""


def unfinished(states: Counter[State]) -> str:
    """The runs that the table does not show: '2 failed, 1 pending'; empty if there are none."""
    shown = (State.DONE, State.PRUNED)
    missing = {state: states[state] for state in State if state not in shown and states[state]}
    return ", ".join(f"{count} {state}" for state, count in missing.items())


def collect(
    runs_dir: Path, *, synthetic: bool = True, show_progress: ShowProgress = silent
) -> Collected:
    """Read every run folder under `runs_dir`: a row for each cell of a finished run, in grid order.

    Runs on synthetic data are left out where there are runs on real data, or if not `synthetic`.
    show_progress: wraps the folders while they are read.
    """
    runs: list[tuple[RunFolder, list[RunConfig]]] = []
    unreadable: list[str] = []
    for folder in show_progress(list(all_runs(runs_dir)), "run folders listed"):
        try:
            runs.append((folder, _cells(folder, unreadable)))
        except UserError as error:
            unreadable.append(str(error))
    real = [(folder, cells) for folder, cells in runs if not cells[0].is_synthetic]
    kept = runs if synthetic and not real else real
    states: dict[str, Counter[State]] = {}
    rows: list[tuple[RunConfig, dict[str, Any]]] = []
    failed: list[dict[str, Any]] = []
    for folder, cells in show_progress(kept, "run folders read"):
        snapshot = Snapshot(folder.path)
        result = snapshot.result or snapshot.pruned
        states.setdefault(cells[0].group, Counter())[snapshot.state] += 1
        if result:  # complete, or pruned: see its stop_reason
            rows += [(cell, _row(cell, result, cells[0])) for cell in cells]
        elif snapshot.state == State.FAILED:
            failure = recorded_class(folder.failure() or {})
            failed += [_failed_row(cell, failure) for cell in cells]
    rows.sort(key=lambda row: _grid_order(row[0]))
    columns = [*PUBLISHED_COLUMNS, *OUR_COLUMNS]
    names = dict.fromkeys(name for _, row in rows for name in row if _OF_CLASS.fullmatch(name))
    columns += [name for name in names if name not in columns]
    table = pd.DataFrame([row for _, row in rows], columns=columns)
    cells = [cell for cell, _ in rows]
    table = with_settings(table, cells, _changed_settings(cells))
    left_out = len(runs) - len(kept)
    return Collected(table, states, left_out, unreadable, pd.DataFrame(failed))


def _changed_settings(configs: Iterable[RunConfig]) -> list[str]:
    """The settings that one of these runs has changed from their default, and uses."""
    changed = {
        spec.name
        for config in {config.id: config.canonical() for config in configs}.values()
        for spec in fields(RunConfig)
        if getattr(config, spec.name) != spec.default
    }
    listed = (spec for spec in fields(RunConfig) if spec.metadata["changes_result"])
    return [spec.name for spec in listed if spec.name in changed - {*_IN_OTHER_COLUMNS}]


def with_settings(
    table: pd.DataFrame, configs: Sequence[RunConfig | None], names: Iterable[str]
) -> pd.DataFrame:
    """The table with a column for each setting of `names` that it lacks, of a config for each row.

    A cell is None if the run does not use the setting, as t_max without the cosine schedule, or if
    its config is not known.
    """
    columns = {
        name: [
            getattr(config, name) if config and config.uses(name) else None for config in configs
        ]
        for name in names
        if name not in table
    }
    # as objects: beside empty cells, whole numbers would become floating-point ones
    return pd.concat([table, pd.DataFrame(columns, table.index, dtype=object)], axis=1)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write the table, atomically; the same runs give the same bytes. Raises UserError."""
    if not path.parent.is_dir():
        raise UserError(f"--csv {str(path)!r}: no such folder")
    remove_abandoned_files(path.parent)
    files.write_text(path, to_csv(table))


def to_csv(table: pd.DataFrame) -> str:
    """The table as the text of a CSV."""
    return table.to_csv(index=False, lineterminator="\n")


def _cells(folder: RunFolder, unreadable: list[str]) -> list[RunConfig]:
    """The grid cells of a run, in grid order. Raises UserError if none can be read.

    A line for each other one that cannot be read is added to `unreadable`.
    """
    source = str(folder.path)
    cells: list[RunConfig] = []
    problems: list[UserError] = []
    for cell in folder.cells() or [folder.config() or {}]:
        try:
            cells.append(from_mapping(cell, source))
        except UserError as error:
            problems.append(error)
    if not cells:
        raise problems[0]
    unreadable += map(str, problems)
    unique = {cell.cell: cell for cell in cells}.values()  # files of before a setting was added
    own = [cell for cell in unique if folder.path.name.endswith(f"-{cell.id}")]
    if not own:
        raise UserError(f"{source}: its config is not that of the run id in its name")
    return sorted(own, key=_grid_order)


def _row(config: RunConfig, result: dict[str, Any], first: RunConfig) -> dict[str, Any]:
    return {
        **result,
        "Modelname": config.model_name,
        "Group": config.model_name,
        "Full_Modelname": config.name,
        "augmentation": config.data_augmentation,
        "alias_of": None if config is first else first.name,
        "config_id": config.config_id,
        "dataset": config.data_name,
        **{
            name: getattr(config, name)
            for name in ("gamma", "learning_rate", "scheduler", "weight_decay")
        },
        **{name: getattr(config, name) for name in ("seed", "num_epochs", "batch_size")},
    }


def _failed_row(config: RunConfig, failure: FailureClass) -> dict[str, Any]:
    """The settings of a run without a result. What it would have been computed in is not known."""
    settings = config.as_dict()
    for name in ("precision", "device"):
        del settings[name]
    augmented = config.data_augmentation
    return {
        **settings,
        "Modelname": config.group,
        "augmentation": augmented,
        "config_id": config.config_id,
        "failure": str(failure),
    }


def _model_order(config: RunConfig) -> tuple[int, str, str]:
    """Sort key: registered architectures in their order, then others by name and version."""
    known = model_types()
    place = known.index(config.model_type) if config.model_type in known else len(known)
    return place, config.model_name, config.model_digest or ""


def _grid_order(config: RunConfig) -> tuple[Any, ...]:
    """Sort key: the order of the reference grid, with falling rates and decays, rising gammas."""
    return (
        config.dataset != RunConfig.dataset,
        config.dataset,
        *_model_order(config),
        SCHEDULERS.index(config.scheduler),
        config.data_augmentation,
        -config.learning_rate,
        -config.weight_decay,
        config.gamma,
        config.num_epochs,
        config.batch_size,
        config.seed,
        config.cell,
    )
