"""Run folders: what is in one, and how it is read and written."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from src.common import files, paths
from src.common.errors import UserError
from src.config import RunConfig
from src.runs import leases, snapshot
from src.runs.snapshot import Snapshot, State

__all__ = ["RunFolder", "State", "all_runs"]


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, config: RunConfig, runs_dir: Path) -> "RunFolder":
        """The folder of a run, which is the same for all grid cells that are the same training."""
        run = config.canonical()
        return cls(runs_dir / run.model_type / f"{run.name}-{config.id}")

    def register(self, config: RunConfig) -> None:
        """Create the folder where it is missing, and note that it answers the cell `config`."""
        cells = self.path / paths.CELLS
        cells.mkdir(parents=True, exist_ok=True)
        (self.path / paths.ATTEMPTS).mkdir(exist_ok=True)
        if not (self.path / paths.CONFIG).exists():
            files.write_json(self.path / paths.CONFIG, config.canonical().stored())
        cell = cells / f"{config.cell}.json"
        if not cell.exists():
            files.write_json(cell, config.stored())

    def remove_leftovers(self) -> None:
        """Remove what writers that were killed have left, whoever owns the run now."""
        if self.result() is not None:
            for name in (paths.RESUME, paths.RESUME_BEFORE):
                (self.path / name).unlink(missing_ok=True)
        files.remove_leftovers(self.path, self.path / paths.CELLS, self.path / paths.ATTEMPTS)

    def answers(self, config: RunConfig) -> bool:
        """Whether it is noted that the folder answers the cell `config`."""
        return (self.path / paths.CELLS / f"{config.cell}.json").exists()

    def state(self) -> State:
        """Derived from the files, never stored."""
        return Snapshot(self.path).state

    def config(self) -> dict[str, Any] | None:
        """The config as it was written; None where it is missing or damaged."""
        return files.read_json(self.path / paths.CONFIG)

    def cells(self) -> list[dict[str, Any]]:
        """The configs of all grid cells that this run answers."""
        read = map(files.read_json, sorted((self.path / paths.CELLS).glob("*.json")))
        return [cell for cell in read if cell]

    def result(self) -> dict[str, Any] | None:
        """The result; None where there is none or it is not whole."""
        return snapshot.numbers(self.path / paths.RESULT)

    def pruned(self) -> dict[str, Any] | None:
        """What a run had come to when it was stopped as hopeless; None where it was not."""
        return snapshot.numbers(self.path / paths.PRUNED)

    def failure(self) -> dict[str, Any] | None:
        """What broke the last attempt; None where nothing did."""
        return files.read_json(self.path / paths.FAILURE)

    def is_given_up(self, retries: int | None = None) -> bool:
        """Whether a failed run is better left: it diverged, or `retries` more attempts failed."""
        failure = self.failure()
        if failure is None:
            return False
        too_often = retries is not None and leases.count_failed_attempts(self.path) > retries
        return too_often or not failure.get("retry", True)

    def history(self) -> list[dict[str, Any]]:
        """A row for each epoch."""
        try:
            lines = (self.path / paths.HISTORY).read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    def write_history(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace history.jsonl."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        files.write_text(self.path / paths.HISTORY, text)

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
        """Publish the result, once; False where another process already has."""
        if self.result() is None:
            (self.path / paths.RESULT).unlink(missing_ok=True)  # damaged
        published = files.write_once(self.path / paths.RESULT, files.to_json(result).encode())
        self.forget_outcome()
        return published

    def write_pruned(self, numbers: dict[str, Any]) -> None:
        """Note what a run had come to when it was stopped as hopeless."""
        files.write_json(self.path / paths.PRUNED, numbers)

    def forget_outcome(self) -> None:
        """A new attempt begins; the old one's file tells how it ended."""
        for name in (paths.FAILURE, paths.PRUNED):
            (self.path / name).unlink(missing_ok=True)

    def write_failure(self, failure: dict[str, Any]) -> None:
        """Note what broke this attempt."""
        files.write_json(self.path / paths.FAILURE, failure)


def all_runs(runs_dir: Path, model: str = "*") -> Iterator[RunFolder]:
    """Every run folder under `runs_dir`, or those of a model, sorted by path.

    Raises UserError where `runs_dir` is missing.
    """
    if not runs_dir.is_dir():
        raise UserError(f"--runs {str(runs_dir)!r}: no such folder")
    for config in sorted(runs_dir.glob(f"{model}/*/{paths.CONFIG}")):
        yield RunFolder(config.parent)
