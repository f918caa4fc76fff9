"""Expand a grid into set files."""

from collections.abc import Sequence
from pathlib import Path

from src.cli.arguments import Parser, positive_int
from src.common.errors import ExitStatus
from src.common.paths import SETS_DIR, shown
from src.common.progress import show_progress
from src.sweep import grid, sets
from src.sweep.grid_summary import lines, summarize


def main(arguments: Sequence[str]) -> ExitStatus:
    """Write the sets, and print how many runs they hold."""
    parsed = _parser().parse(arguments)
    source = "reference grid" if parsed.grid is None else str(parsed.grid)
    values = grid.REFERENCE if parsed.grid is None else grid.read(parsed.grid)
    blocks = grid.expand_blocks(values, source, show_progress)
    configs = [config for block in blocks for config in block.cells]
    cut = list(grid.split_into_sets(configs, parsed.per_file))
    trainings = len({config.id for config in configs})
    if parsed.dry_run:
        print("\n".join(lines(summarize(blocks))))
    surplus = [path.name for n, path in sets.numbered(parsed.out) if n > len(cut)]
    written = [] if parsed.dry_run else sets.write(cut, parsed.out, replace=parsed.replace)
    print(f"{len(configs)} runs ({trainings} different trainings) in {len(cut)} set files")
    if written:
        print(f"{shown(written[0])} ... {written[-1].name}")
    if surplus and parsed.replace:
        done = "would be removed" if parsed.dry_run else "removed"
        print(f"{done}, of a larger grid: {surplus[0]} ... {surplus[-1]}")
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
    parser.add_argument(
        "--replace",
        action="store_true",
        help="remove the set files that a larger grid has left in the folder",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="write nothing; show the axes of each block"
    )
    return parser
