"""Expand a grid into set files."""

from collections.abc import Sequence
from pathlib import Path

from src.cli.arguments import Parser, positive_int
from src.common.errors import ExitStatus
from src.common.paths import SETS_DIR, shown
from src.common.progress import show_progress
from src.sweep import grid, sets


def main(arguments: Sequence[str]) -> ExitStatus:
    """Write the sets, and print how many runs they hold."""
    parsed = _parser().parse(arguments)
    source = "reference grid" if parsed.grid is None else str(parsed.grid)
    values = dict(grid.REFERENCE) if parsed.grid is None else grid.read(parsed.grid)
    configs = grid.expand(values, source, show_progress)
    cut = list(grid.by_set(configs, parsed.per_file))
    written = [] if parsed.dry_run else sets.write(cut, parsed.out)
    trainings = len({config.id for config in configs})
    print(f"{len(configs)} runs ({trainings} different trainings) in {len(cut)} set files")
    if written:
        print(f"{shown(written[0])} ... {written[-1].name}")
    return ExitStatus.DONE


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep generate",
        description="Expand a grid into numbered set files, one run per line.",
    )
    parser.add_argument(
        "--grid", type=Path, metavar="FILE", help="YAML grid [the 864 runs of the reference sweep]"
    )
    parser.add_argument(
        "--out", type=Path, default=SETS_DIR, metavar="DIR", help="folder [hyperparameter_sets]"
    )
    parser.add_argument(
        "--per_file",
        type=positive_int,
        metavar="N",
        help="runs in a file [those of one model, scheduler and augmentation]",
    )
    parser.add_argument("--dry_run", action="store_true", help="write nothing")
    return parser
