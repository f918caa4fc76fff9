"""The runs of a sweep and the state of their folders, each folder read once."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.common import files, paths
from src.common.data_names import DATA_PART, group_name
from src.common.errors import UserError
from src.common.paths import CELLS, CONFIG
from src.common.result_values import StopReason
from src.config import RunConfig, from_mapping
from src.runs.damaged_files import name_once
from src.runs.run_folder import RunFolder
from src.runs.snapshot import Snapshot, State

_RUN_NAME = re.compile(r"-[0-9a-f]{10}$")
"""End of the name of a run folder; folders of searches and of wandb lack it."""


@dataclass(frozen=True)
class SweepRun:
    """One run, which answers one or more grid cells."""

    model: str
    run_id: str
    num_epochs: int | None
    """None if its config cannot be read."""
    cells: Mapping[str, int]
    """Number of its cells by set; under '' without sets."""
    snapshot: Snapshot
    requested: RunConfig | None = None

    @property
    def state(self) -> State:
        """The state of its folder."""
        return self.snapshot.state

    def config(self) -> RunConfig | None:
        """Its settings. Returns None if they cannot be read."""
        if self.requested:
            return self.requested
        try:
            return RunFolder(self.snapshot.path).run_config()
        except UserError:
            return None


def of_sets(
    configs_by_set: Mapping[str, Sequence[RunConfig]], runs_dir: Path
) -> tuple[list[SweepRun], int]:
    """The runs of sets, started or not, and the number of run folders outside of the sets."""
    folders = {paths.run_id(path): path for path in _folders(runs_dir)}
    cells: dict[str, Counter[str]] = {}
    configs: dict[str, RunConfig] = {}
    for name, runs in configs_by_set.items():
        for config in runs:
            configs.setdefault(config.id, config)
            cells.setdefault(config.id, Counter())[name] += 1
    sweep_runs = [
        SweepRun(
            config.group,
            run_id,
            config.num_epochs,
            cells[run_id],
            Snapshot(folders.pop(run_id, runs_dir / config.model_name / f"-{run_id}")),
            config,
        )
        for run_id, config in configs.items()
    ]
    return sweep_runs, len(folders)


def outside_of_sets(
    configs_by_set: Mapping[str, Sequence[RunConfig]], runs_dir: Path
) -> list[tuple[Path, State]]:
    """The run folders that belong to none of the sets, each with its state."""
    ids = {config.id for runs in configs_by_set.values() for config in runs}
    others = [path for path in _folders(runs_dir) if paths.run_id(path) not in ids]
    return [(path, Snapshot(path).state) for path in others]


def of_folders(runs_dir: Path) -> list[SweepRun]:
    """The runs of all folders under `runs_dir`."""
    runs = (_of_folder(path) for path in _folders(runs_dir))
    return [run for run in runs if run]


def _of_folder(path: Path) -> SweepRun | None:
    snapshot = Snapshot(path)
    if CONFIG not in snapshot.names:
        return None
    data_name = paths.run_name(path).partition(DATA_PART)[2] or RunConfig.dataset
    group = group_name(path.parent.name, data_name)
    return SweepRun(group, paths.run_id(path), _epochs(snapshot), {"": _cells(path)}, snapshot)


def _epochs(run: Snapshot) -> int | None:
    """The number of epochs of a run: as many as were trained if it is complete."""
    if run.result and run.result.get("stop_reason") == StopReason.COMPLETED:
        return run.result.get("epochs_run")
    config = files.read_json(f"{run.path}/{CONFIG}")
    if config is None:
        name_once(f"{run.path}/{CONFIG}", "its number of epochs is not known")
    epochs = (config or {}).get("num_epochs")
    return epochs if isinstance(epochs, int) else None


def _cells(path: Path) -> int:
    """Number of distinct cells of a run.

    Two files can describe one cell if one was written before a setting existed.
    """
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
    """All visible folders named like a run, <model>/<name>-<id>, sorted. Raises UserError."""
    if not runs_dir.is_dir():
        raise UserError(f"--runs {str(runs_dir)!r}: no such folder")
    models = sorted(entry.path for entry in os.scandir(runs_dir) if _is_visible(entry))
    for model in models:
        runs = sorted(entry.name for entry in os.scandir(model) if _is_visible(entry))
        yield from (Path(model, name) for name in runs if _RUN_NAME.search(name))


def _is_visible(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir() and not entry.name.startswith(".")
