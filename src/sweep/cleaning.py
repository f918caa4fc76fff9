"""Find and remove what of finished runs takes disk space, except the weights of the best runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.common import paths
from src.common.data_names import SYNTHETIC
from src.common.errors import DiskFull, UserError
from src.common.removed_files import record_removal
from src.common.temporary_files import abandoned_files
from src.config import CHECKPOINT_KINDS, RunConfig
from src.runs.run_folder import RunFolder, all_runs
from src.runs.snapshot import Snapshot, State

BEST, PARENT, UNRANKED, UNFINISHED = "best", "parent", "unranked", "unfinished"
"""Why a run keeps its weights: it is among the best; another run starts with them; its validation
accuracy or its config cannot be read; it is not done."""

_WEIGHTS = tuple(paths.weights(kind) for kind in CHECKPOINT_KINDS)
_RESUME = (paths.RESUME, paths.RESUME_BEFORE)


@dataclass(frozen=True)
class RunCleanup:
    """What is to be removed of one run."""

    path: Path
    model: str
    kept: str | None
    """Why it keeps its weights. None if it loses them."""
    stale: tuple[Path, ...]
    """Resume checkpoints that are not needed, and temporary files of killed writers."""
    products: tuple[Path, ...]
    """Weights and predictions, whose removal is recorded."""
    freed: int
    """Bytes of all these files."""

    @property
    def to_remove(self) -> tuple[Path, ...]:
        """All files that are to be removed."""
        return self.stale + self.products


@dataclass(frozen=True)
class _FoundRun:
    """A run folder as it was found."""

    path: Path
    state: State
    names: frozenset[str]
    accuracy: float | None
    """Its best validation accuracy. None if it is not done, or its result or config is damaged."""
    settings: tuple[Mapping[str, Any], ...]
    """The content of config.json and of the files of its grid cells."""

    @property
    def model(self) -> str:
        return self.path.parent.name

    @property
    def group(self) -> tuple[str, bool, str]:
        """Runs of one architecture on one data set are ranked together."""
        synthetic = any(
            settings.get("base_dataset_path") == SYNTHETIC for settings in self.settings
        )
        names = (str(settings["dataset"]) for settings in self.settings if "dataset" in settings)
        return self.model, synthetic, next(names, RunConfig.dataset)


def plan_cleaning(
    runs_dir: Path,
    keep_best: int,
    model: str | None = None,
    *,
    predictions: bool = False,
) -> list[RunCleanup]:
    """What to remove of each run, or of those of a model. Changes nothing.

    Runs that tie with the last of the `keep_best` best keep their weights too. predictions: also
    remove predictions.npz of the runs that lose their weights. Raises UserError if there is no such
    folder or model.
    """
    everything = [_find(folder) for folder in all_runs(runs_dir)]
    models = sorted({run.model for run in everything})
    if model is not None and model not in models:
        raise UserError(f"--model {model!r}: expected one of {', '.join(models) or 'no runs'}")
    parents = _Parents.of(everything)
    best = _best(everything, keep_best)
    selected = [run for run in everything if model in (None, run.model)]
    names = (*_WEIGHTS, *([paths.PREDICTIONS] if predictions else []))
    return [_plan(run, _why_kept(run, best, parents), names) for run in selected]


def remove(run: RunCleanup) -> None:
    """Remove the files of a run, and record which weights and predictions they were."""
    for path in run.stale:
        path.unlink(missing_ok=True)
    names, recorded = [path.name for path in run.products], not run.products
    with suppress(DiskFull):
        if names:
            record_removal(run.path, names)
            recorded = True
    for path in run.products:
        path.unlink(missing_ok=True)
    if not recorded:  # the disk was full, which it is no longer
        record_removal(run.path, names)


def _find(folder: RunFolder) -> _FoundRun:
    now = Snapshot(folder.path)
    settings = (folder.config() or {}, *folder.cells())
    accuracy = now.validation_accuracy if settings[0] else None
    return _FoundRun(folder.path, now.state, now.names, accuracy, settings)


def _best(runs: Iterable[_FoundRun], keep_best: int) -> set[Path]:
    """The best runs of each group, and those that tie with the last of them."""
    groups: dict[tuple[str, bool, str], list[tuple[float, Path]]] = {}
    for run in runs:
        if run.accuracy is not None:
            groups.setdefault(run.group, []).append((run.accuracy, run.path))
    best: set[Path] = set()
    for ranked in groups.values():
        accuracies = sorted((accuracy for accuracy, _ in ranked), reverse=True)
        lowest = accuracies[:keep_best][-1:]
        best |= {path for accuracy, path in ranked if lowest and accuracy >= lowest[0]}
    return best


@dataclass(frozen=True)
class _Parents:
    """The folders and the ids of runs whose weights other runs start with."""

    folders: frozenset[Path]
    ids: frozenset[str]

    @classmethod
    def of(cls, runs: Iterable[_FoundRun]) -> "_Parents":
        """The parents of `runs`."""
        folders: set[Path] = set()
        ids: set[str] = set()
        for settings in (one for run in runs for one in run.settings):
            ids.add(str(settings.get("parent", "")).partition("/")[0])
            named = (settings.get("parent_weights"), settings.get("weights"))
            folders |= {Path(str(name)).resolve().parent for name in named if name}
        return cls(frozenset(folders), frozenset(ids))

    def __contains__(self, run: _FoundRun) -> bool:
        return run.path.resolve() in self.folders or paths.run_id(run.path) in self.ids


def _why_kept(run: _FoundRun, best: set[Path], parents: _Parents) -> str | None:
    if run.state is not State.DONE:
        return UNFINISHED
    if run.accuracy is None:
        return UNRANKED
    if run.path in best:
        return BEST
    return PARENT if run in parents else None


def _plan(run: _FoundRun, kept: str | None, names: Sequence[str]) -> RunCleanup:
    """What to delete of a run; names: the files that a run loses if it is not kept."""
    stale = [] if run.state is State.RUNNING else list(_leftovers(run.path))
    if run.state is State.DONE:
        stale += _present(run, _RESUME)
    products = [] if kept else _present(run, names)
    freed = sum(_size(path) for path in (*stale, *products))
    return RunCleanup(run.path, run.model, kept, tuple(stale), tuple(products), freed)


def _leftovers(folder: Path) -> Iterator[Path]:
    inside = (folder / paths.CELLS, folder / paths.ATTEMPTS)
    return abandoned_files(folder, *inside)


def _present(run: _FoundRun, names: Sequence[str]) -> list[Path]:
    return [run.path / name for name in names if name in run.names]


def _size(path: Path) -> int:
    """Bytes of a file; 0 if it is gone by now."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
