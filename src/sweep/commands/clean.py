"""Free disk space: remove the weights of all but the best runs, and checkpoints that are left."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src.cli.arguments import Parser, non_negative_int
from src.common import paths
from src.common.errors import ExitStatus, format_bytes
from src.config import CHECKPOINT_KINDS, model_types
from src.runs.run_folder import RunFolder, all_runs
from src.runs.snapshot import Snapshot, State
from src.sweep.command_options import add_runs_option

_CHECKPOINTS = (paths.RESUME, paths.RESUME_BEFORE)
_WEIGHTS = tuple(paths.weights(kind) for kind in CHECKPOINT_KINDS)


@dataclass(frozen=True)
class FinishedRun:
    """A run that is done, and how good it is."""

    model: str
    path: Path
    val_accuracy: float


@dataclass(frozen=True)
class Space:
    """What can be freed of the finished runs of an architecture."""

    model: str
    done: int
    kept: int
    """Runs whose weights are kept: the best, and those that other runs continue from."""
    files: tuple[Path, ...]
    bytes: int


def main(arguments: Sequence[str]) -> ExitStatus:
    """Remove the files, and print what was freed, for each architecture and in all."""
    parsed = _parser().parse(arguments)
    spaces = find_space(parsed.runs, parsed.keep_best, parsed.model)
    if not parsed.dry_run:
        for path in (path for space in spaces for path in space.files):
            path.unlink(missing_ok=True)
    if parsed.json:
        print(json.dumps([_as_json(space) for space in spaces], indent=2))
    else:
        print("\n".join(_lines(spaces, dry_run=parsed.dry_run)))
    return ExitStatus.DONE


def find_space(runs_dir: Path, keep_best: int, model: str | None = None) -> list[Space]:
    """What can be freed: weights of runs beyond the `keep_best` of their architecture.

    And resume checkpoints that a finished run has left. The best are those with the highest
    validation accuracy. Runs that are not done, and all other files, are left alone. Raises
    UserError if `runs_dir` is missing.
    """
    parents = set(_parent_weights(all_runs(runs_dir)))
    finished: dict[str, list[FinishedRun]] = {}
    for run in _finished(all_runs(runs_dir, model or "*")):
        finished.setdefault(run.model, []).append(run)
    return [_space(name, runs, keep_best, parents) for name, runs in finished.items()]


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep clean",
        description="Free disk space: remove the weights of finished runs, except for the best of "
        "each architecture by validation accuracy and for those that other runs continue from, "
        "and checkpoints that finished runs have left. Results, histories and predictions are "
        "kept, and runs that are not done are left alone.",
    )
    parser.add_argument(
        "--keep_best",
        type=non_negative_int,
        required=True,
        metavar="K",
        help="keep the weights of the K best runs of each architecture",
    )
    parser.add_argument("--model", choices=model_types(), metavar="NAME", help="one architecture")
    add_runs_option(parser)
    parser.add_argument("--dry_run", action="store_true", help="change nothing")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def _finished(runs: Iterable[RunFolder]) -> Iterator[FinishedRun]:
    """The runs that are done. A run without a readable accuracy counts as the best."""
    for run in runs:
        snapshot = Snapshot(run.path)
        if snapshot.state == State.DONE:
            accuracy = (snapshot.result or {}).get("best_val_accuracy")
            if not isinstance(accuracy, float) or not math.isfinite(accuracy):
                accuracy = math.inf
            yield FinishedRun(run.path.parent.name, run.path, accuracy)


def _parent_weights(runs: Iterable[RunFolder]) -> Iterator[Path]:
    """The weights files that runs continue from."""
    for run in runs:
        if parent := (run.config() or {}).get("parent_weights"):
            yield Path(str(parent)).resolve()


def _space(model: str, runs: Sequence[FinishedRun], keep_best: int, parents: set[Path]) -> Space:
    ranked = sorted(runs, key=lambda run: (-run.val_accuracy, run.path.name))
    removable: list[Path] = []
    kept = 0
    for place, run in enumerate(ranked):
        removable += [path for name in _CHECKPOINTS if (path := run.path / name).exists()]
        weights = [path for name in _WEIGHTS if (path := run.path / name).exists()]
        if place < keep_best or parents & {path.resolve() for path in weights}:
            kept += 1
        else:
            removable += weights
    size = sum(path.stat().st_size for path in removable)
    return Space(model, len(ranked), kept, tuple(removable), size)


def _lines(spaces: Sequence[Space], *, dry_run: bool) -> Iterator[str]:
    verb = "would free" if dry_run else "freed"
    for space in spaces:
        yield (
            f"{space.model}: {space.done} runs done, weights of {space.kept} kept; "
            f"{verb} {format_bytes(space.bytes)} in {len(space.files)} files"
        )
    total = sum(space.bytes for space in spaces)
    yield f"{verb} {format_bytes(total)}" if spaces else "no run is done: nothing to free"


def _as_json(space: Space) -> dict[str, Any]:
    return {**asdict(space), "files": [str(path) for path in space.files]}
