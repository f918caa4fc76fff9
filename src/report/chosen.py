"""Which runs an analysis is of: those that are named, or the best ones."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from src.common.errors import UserError
from src.common.paths import CONFIG, RUNS_DIR
from src.config import RunConfig, from_mapping
from src.report import table
from src.runs.aggregate import collect
from src.runs.run_folder import RunFolder
from src.runs.run_lookup import find

T = TypeVar("T")


@dataclass(frozen=True)
class Chosen:
    """A run, its settings, and how it is called in titles."""

    folder: RunFolder
    config: RunConfig

    @classmethod
    def at(cls, path: Path) -> "Chosen":
        """The run in a folder. Raises UserError where its config cannot be read."""
        folder = RunFolder(path)
        values = folder.config()
        if values is None:
            raise UserError(f"{path}: no readable {CONFIG}")
        return cls(folder, from_mapping(values, str(path)))

    @property
    def title(self) -> str:
        """Model and id."""
        return f"{self.config.model_type} {self.config.id}"

    @property
    def stem(self) -> str:
        """Model and id, as part of a file's name."""
        return f"{self.config.model_type}-{self.config.id}"


def wanted(parsed: Namespace, each: int = 1) -> list[Chosen]:
    """The runs of --run, or the best `each` of every architecture or of --model."""
    runs_dir = parsed.runs or RUNS_DIR
    if not parsed.run:
        return best(runs_dir, parsed.model, parsed.rank_by, each)
    if parsed.model or parsed.rank_by:
        raise UserError("--model, --rank-by: they choose among all runs; --run has chosen")
    return named(parsed.run, runs_dir)


def named(words: Sequence[str], runs_dir: Path) -> list[Chosen]:
    """The runs that `words` stand for: folders, ids or beginnings of them, or names.

    Raises UserError for a word that no run or more than one goes by.
    """
    found = (find(word, runs_dir, "--run") for word in words)
    paths = dict.fromkeys(run.path.resolve() for run in found)
    return [Chosen.at(path) for path in paths]


def best(runs_dir: Path, model: str | None, rank_by: str | None, each: int) -> list[Chosen]:
    """The `each` best runs of every architecture, or of `model`, best architecture first.

    rank_by: as `table.rank_column` takes it. Raises UserError where no run is finished.
    """
    collected = collect(runs_dir)
    rows = collected.table
    if rows.empty:
        raise UserError(f"--runs {str(runs_dir)!r}: no finished run; --run names others")
    table.architectures(rows, model)
    ranked = table.ranked(rows, table.rank_column(rows, rank_by))
    if model:
        ranked = ranked[ranked["Modelname"] == model]
    top = ranked.groupby("Modelname", sort=False).head(each)
    folders = (
        next(runs_dir.glob(f"{name}/*-{run_id}"))
        for name, run_id in zip(top["Modelname"], top["run_id"], strict=True)
    )
    return [Chosen.at(folder) for folder in folders]


def having(
    runs: Sequence[Chosen], read: Callable[[Chosen], T], *, quiet: bool = False
) -> Iterator[tuple[Chosen, T]]:
    """Each run with what `read` finds of it; runs without it are named on stderr.

    Raises UserError where no run has it.
    """
    missing: list[str] = []
    for run in runs:
        try:
            found = read(run)
        except UserError as error:
            missing.append(str(error))
            continue
        yield run, found
    if len(missing) == len(runs):
        raise UserError("; ".join(missing))
    for line in missing:
        if not quiet:
            print(f"left out: {line}", file=sys.stderr)
