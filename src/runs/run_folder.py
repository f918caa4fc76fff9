"""Run folders: the files of one run, and how they are read and written."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from src.common import files, paths
from src.common.errors import UserError
from src.common.temporary_files import remove_abandoned_files
from src.config import RunConfig, from_mapping
from src.runs import leases, snapshot
from src.runs.snapshot import Snapshot, State

__all__ = ["DEFAULT_RETRIES", "RunFolder", "State", "all_runs"]


DEFAULT_RETRIES = 2
"""Default of --retries in commands that train sets: attempts after the first."""


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, config: RunConfig, runs_dir: Path) -> "RunFolder":
        """The folder of a run. Grid cells with the same id share one."""
        run = config.canonical()
        return cls(runs_dir / run.model_name / f"{run.name}-{config.id}")

    def register(self, config: RunConfig) -> None:
        """Create the folder if it is missing, and record `config` as one of its grid cells."""
        cells = self.path / paths.CELLS
        cells.mkdir(parents=True, exist_ok=True)
        (self.path / paths.ATTEMPTS).mkdir(exist_ok=True)
        # Machines write them at the same moment. By rename(2), one whose reply NFS has lost would
        # look failed after another machine's: link(2) lets the first file stand.
        for path, run in (
            (self.path / paths.CONFIG, config.canonical()),
            (cells / f"{config.cell}.json", config),
        ):
            if not path.exists():
                files.create_json(path, run.stored())

    def remove_leftovers(self) -> None:
        """Remove temporary files of killed writers, and the checkpoints of a finished run."""
        if self.result() is not None:
            for name in (paths.RESUME, paths.RESUME_BEFORE):
                (self.path / name).unlink(missing_ok=True)
        remove_abandoned_files(self.path, self.path / paths.CELLS, self.path / paths.ATTEMPTS)

    def has_cell(self, config: RunConfig) -> bool:
        """Whether `config` is recorded as a grid cell of this folder."""
        return (self.path / paths.CELLS / f"{config.cell}.json").exists()

    def state(self) -> State:
        """The state, derived from the files."""
        return Snapshot(self.path).state

    def config(self) -> dict[str, Any] | None:
        """The content of config.json. Returns None if it is missing or damaged."""
        return files.read_json(self.path / paths.CONFIG)

    def run_config(self) -> RunConfig:
        """The settings in config.json. Raises UserError if they cannot be read."""
        values = self.config()
        if values is None:
            raise UserError(f"{self.path}: no {paths.CONFIG} in it that can be read")
        return from_mapping(values, str(self.path))

    def cells(self) -> list[dict[str, Any]]:
        """The settings of every grid cell of this run."""
        read = map(files.read_json, sorted((self.path / paths.CELLS).glob("*.json")))
        return [cell for cell in read if cell]

    def result(self) -> dict[str, Any] | None:
        """The content of result.json. Returns None if it is missing or damaged."""
        return snapshot.numbers(self.path / paths.RESULT)

    def pruned(self) -> dict[str, Any] | None:
        """The metrics of a pruned run so far. Returns None if it was not pruned."""
        return snapshot.numbers(self.path / paths.PRUNED)

    def failure(self) -> dict[str, Any] | None:
        """The content of failure.json. Returns None if the last attempt did not fail."""
        return files.read_json(self.path / paths.FAILURE)

    def is_given_up(self, retries: int | None = None) -> bool:
        """Whether to give a failed run up: it diverged, or too many of its attempts failed."""
        failure = self.failure()
        if failure is None:
            return False
        too_often = retries is not None and leases.count_failed_attempts(self.path) > retries
        return too_often or not failure.get("retry", True)

    def history(self) -> list[dict[str, Any]]:
        """One row per epoch, from history.jsonl. Raises ValueError if that is damaged."""
        path = self.path / paths.HISTORY
        try:
            return snapshot.history_rows(files.read_bytes(path))
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise ValueError(f"{path}: damaged: {error}") from None

    def write_history(
        self, rows: Sequence[dict[str, Any]], before_rename: Callable[[], object] = lambda: None
    ) -> None:
        """Replace history.jsonl. before_rename: as of `files.write`."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        files.write_text(self.path / paths.HISTORY, text, before_rename)

    def write_weights(self, kind: str, weights: dict[str, Any]) -> None:
        """Write a state dict that torch.load(weights_only=True) reads."""
        import torch

        files.write(self.path / paths.weights(kind), lambda file: torch.save(weights, file))

    def write_predictions(self, **arrays: Any) -> None:
        """Write predictions.npz."""
        import numpy as np

        def save(file: IO[bytes]) -> None:
            np.savez_compressed(file, **arrays)

        files.write(self.path / paths.PREDICTIONS, save)

    def write_result(self, result: dict[str, Any]) -> bool:
        """Publish the result, once. Returns False if another process already has."""
        path = self.path / paths.RESULT
        # what did not exist is not removed: another process may have published it since
        if path.exists() and self.result() is None:
            path.unlink(missing_ok=True)  # damaged
        published = files.create_json(path, result)
        self.forget_outcome()
        return published

    def write_pruned(self, numbers: dict[str, Any]) -> None:
        """Write pruned.json, the metrics of a pruned run so far."""
        files.write_json(self.path / paths.PRUNED, numbers)

    def forget_outcome(self) -> None:
        """Remove failure.json and pruned.json: the earlier attempt's own file says how it ended."""
        for name in (paths.FAILURE, paths.PRUNED):
            (self.path / name).unlink(missing_ok=True)

    def write_failure(self, failure: dict[str, Any]) -> None:
        """Write failure.json."""
        files.write_json(self.path / paths.FAILURE, failure)


def all_runs(runs_dir: Path, model: str = "*") -> Iterator[RunFolder]:
    """Every run folder under `runs_dir`, or those of a model, sorted by path.

    Raises UserError if `runs_dir` is missing.
    """
    if not runs_dir.is_dir():
        raise UserError(f"--runs {str(runs_dir)!r}: no such folder")
    models = _visible_names(runs_dir) if model == "*" else [model]
    for model in models:
        for name in _visible_names(runs_dir / model):
            if (runs_dir / model / name / paths.CONFIG).exists():
                yield RunFolder(runs_dir / model / name)


def _visible_names(folder: Path) -> list[str]:
    """The names in a folder, sorted, without hidden ones such as those of a trash folder."""
    return sorted(name for name in files.names_in(folder) if not name.startswith("."))
