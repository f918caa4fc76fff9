"""Which runs to analyse: those that are named, or the best of each architecture."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from src.common import paths
from src.common.errors import UserError
from src.common.paths import CONFIG, RUNS_DIR
from src.config import RunConfig, from_mapping
from src.data.spec import DataSpec, title_of_data
from src.report.table import MODEL, architectures, rank, rank_column, with_groups
from src.runs.aggregate import collect
from src.runs.run_data import spec_of
from src.runs.run_folder import RunFolder, all_runs
from src.runs.run_lookup import find

T = TypeVar("T")


@dataclass(frozen=True)
class SelectedRun:
    """A run folder and its config."""

    folder: RunFolder
    config: RunConfig

    @classmethod
    def at(cls, path: Path) -> "SelectedRun":
        """The run in a folder. Raises UserError if its config cannot be read."""
        folder = RunFolder(path)
        values = folder.config()
        if values is None:
            raise UserError(f"{path}: no readable {CONFIG}")
        return cls(folder, from_mapping(values, str(path)))

    @property
    def title(self) -> str:
        """Architecture and run id."""
        return f"{self.config.model_name} {self.config.id}"

    @property
    def stem(self) -> str:
        """Architecture and run id, for file names."""
        return f"{self.config.model_name}-{self.config.id}"

    @property
    def data_name(self) -> str:
        """Its data set, for titles."""
        return title_of_data(self.config.data_name)

    @cached_property
    def data(self) -> DataSpec:
        """The classes and the image shape of its data. Raises UserError if they are not known."""
        return spec_of(self.config, self.folder.result() or self.folder.pruned())


@dataclass(frozen=True, kw_only=True)
class RunSelection:
    """What the command line says about which runs to analyse."""

    runs_dir: Path = RUNS_DIR
    names: Sequence[str] = ()
    """Folders, names or ids of runs. Empty: the best runs."""
    model: str | None = None
    """The best runs of this architecture only."""
    rank_by: str | None = None
    """As `table.rank_column` takes it."""

    def runs(self, each: int = 1) -> list[SelectedRun]:
        """The named runs, or the best `each` of every architecture or of `model`.

        Raises UserError if there is no such run, or if names and a ranking are both given.
        """
        if not self.names:
            return best_runs(self.runs_dir, self.model, self.rank_by, each)
        if self.model or self.rank_by:
            raise UserError("--model, --rank_by: they choose among all runs; --run has chosen")
        return find_runs(self.names, self.runs_dir)


def find_runs(names: Sequence[str], runs_dir: Path) -> list[SelectedRun]:
    """The runs that names stand for: folders, ids, beginnings of ids, or names of run folders.

    Raises UserError for a name of no run or of more than one.
    """
    folders = (find(name, runs_dir, "--run") for name in names)
    paths = dict.fromkeys(folder.path.resolve() for folder in folders)
    return [SelectedRun.at(path) for path in paths]


def best_runs(
    runs_dir: Path, model: str | None = None, rank_by: str | None = None, each: int = 1
) -> list[SelectedRun]:
    """The `each` best runs of every architecture, or of `model`, the best architecture first.

    rank_by: as `table.rank_column` takes it. Raises UserError if no run is finished.
    """
    rows = with_groups(collect(runs_dir).table)
    if rows.empty:
        raise UserError(f"--runs {str(runs_dir)!r}: no finished run; --run names others")
    ranked = rank(rows, rank_column(rows, rank_by))
    ranked = ranked[ranked[MODEL].isin(architectures(rows, model))]
    best = ranked.groupby(MODEL, sort=False).head(each)
    folders = (
        next(runs_dir.glob(f"{name}/*-{run_id}"))
        for name, run_id in zip(best["Group"], best["run_id"], strict=True)
    )
    return [SelectedRun.at(folder) for folder in folders]


def runs_by_id(runs_dir: Path | None, run_ids: Iterable[str]) -> dict[str, SelectedRun]:
    """The runs with these ids that have a folder with a readable config, by id."""
    if runs_dir is None:
        return {}
    ids, runs = set(run_ids), {}
    for folder in all_runs(runs_dir) if runs_dir.is_dir() else ():
        run_id = paths.run_id(folder.path)
        if run_id in ids:
            try:
                runs[run_id] = SelectedRun.at(folder.path)
            except UserError:
                continue
    return runs


def read_each(
    runs: Sequence[SelectedRun], read: Callable[[SelectedRun], T], *, quiet: bool = False
) -> Iterator[tuple[SelectedRun, T]]:
    """Each run with what `read` returns. Runs for which it raises UserError are named on stderr.

    Raises UserError if it does so for all of them.
    """
    failures: list[str] = []
    for run in runs:
        try:
            value = read(run)
        except UserError as error:
            failures.append(str(error))
            continue
        yield run, value
    if len(failures) == len(runs):
        raise UserError("; ".join(failures))
    for line in failures:
        if not quiet:
            print(f"left out: {line}", file=sys.stderr)
