"""The trainings of a sweep and what their folders tell, each folder read once."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.common import files
from src.common.errors import UserError
from src.common.paths import CELLS, CONFIG
from src.config import RunConfig, from_mapping
from src.runs.snapshot import Snapshot, State

_RUN_NAME = re.compile(r"-[0-9a-f]{10}$")
"""What a run folder's name ends in; no search's, and nothing that wandb keeps beside them."""


@dataclass(frozen=True)
class SweepRun:
    """One training, which one grid cell or more ask for."""

    model: str
    run_id: str
    num_epochs: int | None
    """None where its config cannot be read."""
    cells: Mapping[str, int]
    """How many cells ask for it, by set; under '' where sets are not told apart."""
    found: Snapshot
    asked: RunConfig | None = None

    @property
    def state(self) -> State:
        """As its folder tells."""
        return self.found.state

    def config(self) -> RunConfig | None:
        """Its settings. Returns None if they cannot be read."""
        if self.asked:
            return self.asked
        try:
            return from_mapping(files.read_json(self.found.path / CONFIG) or {}, CONFIG)
        except UserError:
            return None


def of_sets(
    by_set: Mapping[str, Sequence[RunConfig]], runs_dir: Path
) -> tuple[list[SweepRun], int]:
    """The trainings of sets, begun or not, and how many run folders belong to none of them."""
    there = {path.name.rpartition("-")[2]: path for path in _folders(runs_dir)}
    cells: dict[str, Counter[str]] = {}
    configs: dict[str, RunConfig] = {}
    for name, runs in by_set.items():
        for config in runs:
            configs.setdefault(config.id, config)
            cells.setdefault(config.id, Counter())[name] += 1
    found = [
        SweepRun(
            config.model_type,
            run_id,
            config.num_epochs,
            cells[run_id],
            Snapshot(there.pop(run_id, runs_dir / config.model_type / f"-{run_id}")),
            config,
        )
        for run_id, config in configs.items()
    ]
    return found, len(there)


def of_folders(runs_dir: Path) -> list[SweepRun]:
    """The trainings of all run folders under `runs_dir`."""
    found = (_of_folder(path) for path in _folders(runs_dir))
    return [training for training in found if training]


def _of_folder(path: Path) -> SweepRun | None:
    found = Snapshot(path)
    if CONFIG not in found.names:
        return None
    run_id = path.name.rpartition("-")[2]
    return SweepRun(path.parent.name, run_id, _epochs(found), {"": _cells(path)}, found)


def _epochs(run: Snapshot) -> int | None:
    """How many a run is to train: as many as it did where it came to its end."""
    if run.result and run.result.get("stop_reason") == "completed":
        return run.result.get("epochs_run")
    return (files.read_json(f"{run.path}/{CONFIG}") or {}).get("num_epochs")


def _cells(path: Path) -> int:
    """How many cells of a grid a run answers: files of before a setting was added are the same."""
    try:
        names = [name for name in os.listdir(f"{path}/{CELLS}") if name.endswith(".json")]
    except FileNotFoundError:
        return 1
    if len(names) < 2:
        return 1
    read = (files.read_json(f"{path}/{CELLS}/{name}") or {} for name in names)
    try:
        return len({from_mapping(cell, CELLS).cell for cell in read})
    except UserError:
        return len(names)


def _folders(runs_dir: Path) -> Iterator[Path]:
    """What is named as a run folder, <model>/<name>-<id>, sorted. Raises UserError without any."""
    if not runs_dir.is_dir():
        raise UserError(f"--runs {str(runs_dir)!r}: no such folder")
    models = sorted(entry.path for entry in os.scandir(runs_dir) if entry.is_dir())
    for model in models:
        runs = sorted(entry.name for entry in os.scandir(model) if entry.is_dir())
        yield from (Path(model, name) for name in runs if _RUN_NAME.search(name))
