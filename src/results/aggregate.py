"""Run folders -> one table: clean_runs.csv."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from src import files
from src.config import (
    CHECKPOINT_KINDS,
    SCHEDULERS,
    SYNTHETIC,
    RunConfig,
    from_mapping,
    model_types,
)
from src.data.dataset import CLASSES
from src.errors import UserError
from src.results.store import RunFolder, State, all_runs


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
"""Of the published sweep's clean_runs.csv; accuracies are shares from 0 to 1."""

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
)


@dataclass(frozen=True)
class Collected:
    """The finished runs as a table, how many runs stand where, and what was left out of it."""

    table: pd.DataFrame
    states: dict[str, Counter[State]]
    """By architecture."""
    synthetic_left_out: int


def unfinished(states: Counter[State]) -> str:
    """What no table shows, in words: '2 failed, 1 pending'; empty where nothing is missing."""
    missing = {state: states[state] for state in State if state != State.DONE and states[state]}
    return ", ".join(f"{count} {state}" for state, count in missing.items())


def collect(runs_dir: Path, *, synthetic: bool = True) -> Collected:
    """Read every run folder under `runs_dir`: a row for each cell of a finished run, in grid order.

    Runs on synthetic data are left out where there are runs on real data, or if not `synthetic`.
    """
    states: dict[str, Counter[State]] = {}
    cells: list[tuple[RunConfig, dict[str, Any]]] = []
    for folder in all_runs(runs_dir):
        state = folder.state()
        states.setdefault(folder.path.parent.name, Counter())[state] += 1
        if state == State.DONE:
            cells += _rows(folder)
    real = [cell for cell in cells if cell[0].dataset != SYNTHETIC]
    wanted = real or (cells if synthetic else [])
    kept = sorted(wanted, key=lambda cell: (_grid_order(cell[0]), cell[1]["run_id"]))
    rows = [row for _, row in kept]
    table = pd.DataFrame(rows, columns=[*PUBLISHED_COLUMNS, *OUR_COLUMNS])
    return Collected(table, states, len(cells) - len(rows))


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write the table, atomically and byte-identically for the same runs."""
    if not path.parent.is_dir():
        raise UserError(f"--csv {str(path)!r}: no such folder")
    files.write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _rows(folder: RunFolder) -> list[tuple[RunConfig, dict[str, Any]]]:
    """A row for each cell that a finished run answers; all but the first are aliases."""
    result = folder.result()
    assert result
    configs = [from_mapping(cell, str(folder.path)) for cell in folder.cells()]
    configs = sorted(
        (config for config in configs if config.id == result["run_id"]), key=_grid_order
    )
    return [(config, _row(config, result, configs[0])) for config in configs]


def _row(config: RunConfig, result: dict[str, Any], first: RunConfig) -> dict[str, Any]:
    return {
        **result,
        "Modelname": config.model_type,
        "Group": config.model_type,
        "Full_Modelname": config.name,
        "augmentation": config.data_augmentation,
        "alias_of": None if config is first else first.name,
        **{
            name: getattr(config, name)
            for name in ("gamma", "learning_rate", "scheduler", "weight_decay")
        },
        **{name: getattr(config, name) for name in ("seed", "num_epochs", "batch_size")},
    }


def _grid_order(config: RunConfig) -> tuple[Any, ...]:
    """The order of the reference grid: rates and decays fall, gammas rise."""
    return (
        model_types().index(config.model_type),
        SCHEDULERS.index(config.scheduler),
        config.data_augmentation,
        -config.learning_rate,
        -config.weight_decay,
        config.gamma,
        config.num_epochs,
        config.batch_size,
        config.seed,
    )
