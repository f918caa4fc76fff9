"""Free the disk space of weights and stale checkpoints, except those of the best runs."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from src.cli.arguments import Parser, non_negative_int
from src.cli.common_options import add_json_option, add_runs_option
from src.cli.terminal import console, plain_table
from src.common.errors import ExitStatus, format_bytes
from src.common.json_text import json_text
from src.common.paths import shown
from src.sweep import cleaning
from src.sweep.cleaning import RunCleanup


@dataclass(frozen=True)
class CleanedModel:
    """What is removed of the runs of one architecture."""

    runs: int
    unfinished: int
    kept: int
    """Finished runs that keep their weights."""
    files: int
    freed_bytes: int


def main(arguments: Sequence[str]) -> ExitStatus:
    """Plan, remove the files unless it is a dry run, and print what was freed."""
    parsed = _parser().parse(arguments)
    runs = cleaning.plan_cleaning(
        parsed.runs,
        parsed.keep_best,
        parsed.model,
        predictions=parsed.predictions,
    )
    for run in runs:
        if not parsed.dry_run:
            cleaning.remove(run)
        if run.to_remove and not parsed.json:
            print(_line(run, parsed.dry_run))
    if parsed.json:
        print(json_text(_json(runs, parsed.dry_run)))
    else:
        console().print(_table(runs, parsed.dry_run))
    return ExitStatus.DONE


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep clean",
        description="Remove the weights of finished runs that are not among the K best of their "
        "architecture and data set by validation accuracy, resume checkpoints of finished runs, "
        "and temporary files of killed processes. Results, histories and predictions stay, as does "
        "everything that a run which is not finished needs, and weights with which another run "
        "starts.",
    )
    parser.add_argument(
        "--keep_best",
        type=non_negative_int,
        required=True,
        metavar="K",
        help="runs of each architecture and data set that keep their weights",
    )
    parser.add_argument("--model", metavar="MODEL", help="only runs of this architecture")
    add_runs_option(parser)
    parser.add_argument(
        "--predictions",
        action="store_true",
        help="also remove predictions.npz of the runs that lose their weights",
    )
    parser.add_argument("--dry_run", action="store_true", help="remove nothing")
    add_json_option(parser)
    return parser


def _line(run: RunCleanup, dry: bool) -> str:
    verb = "would remove" if dry else "removed"
    names = ", ".join(str(path.relative_to(run.path)) for path in run.to_remove)
    return f"{verb} {names} ({format_bytes(run.freed)}) of {shown(run.path)}"


def _models(runs: Iterable[RunCleanup]) -> dict[str, CleanedModel]:
    """The runs summed up by architecture."""
    by_model: dict[str, list[RunCleanup]] = {}
    for run in runs:
        by_model.setdefault(run.model, []).append(run)
    return {model: _sum(members) for model, members in by_model.items()}


def _sum(runs: Sequence[RunCleanup]) -> CleanedModel:
    unfinished = sum(run.kept == cleaning.UNFINISHED for run in runs)
    return CleanedModel(
        runs=len(runs),
        unfinished=unfinished,
        kept=sum(run.kept is not None for run in runs) - unfinished,
        files=sum(len(run.to_remove) for run in runs),
        freed_bytes=sum(run.freed for run in runs),
    )


def _json(runs: Sequence[RunCleanup], dry: bool) -> dict[str, object]:
    removed: list[Path] = [path for run in runs for path in run.to_remove]
    return {
        "dry_run": dry,
        "models": {model: asdict(counts) for model, counts in _models(runs).items()},
        "files": [str(path) for path in removed],
        "freed_bytes": sum(run.freed for run in runs),
    }


def _table(runs: Sequence[RunCleanup], dry: bool) -> Table:
    table = plain_table()
    freed = "would be freed" if dry else "freed"
    for name in ("", "runs", "unfinished", "kept", "files", freed):
        table.add_column(name, justify="right" if name else "left")
    for name, model in _models(runs).items():
        table.add_row(name, *_cells(model))
    table.add_row("all", *_cells(_sum(runs)))
    return table


def _cells(model: CleanedModel) -> list[str]:
    counts = (model.runs, model.unfinished, model.kept, model.files)
    return [*map(str, counts), format_bytes(model.freed_bytes)]
