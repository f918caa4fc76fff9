"""Sweeps from the command line: python -m src.sweep generate | work | estimate"""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from src.cli import (
    Parser,
    add_halving_options,
    add_slots_option,
    add_training_options,
    door,
    halving_of,
    positive,
    train,
)
from src.config import DEVICES, RunConfig
from src.errors import ExitStatus, UserError
from src.paths import SETS_DIR, shown
from src.sweep import grid, sets
from src.sweep.submit import submit

_HELP = """Sweeps from the command line.

  generate   expand a grid into numbered set files
  submit     train what is missing of them: as jobs of Slurm, in processes, or in this one
  work       train the runs of one set, of several or of all
  estimate   seconds, device-hours and disk that they will take, from a short measurement

`python -m src.sweep COMMAND --help` tells more."""


def main(arguments: Sequence[str]) -> ExitStatus:
    """Pass on to the command that the first argument names."""
    commands = {"generate": generate, "submit": submit, "work": work, "estimate": estimate}
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        return ExitStatus.DONE if arguments else ExitStatus.BAD_INPUT
    name, *rest = arguments
    if name not in commands:
        raise UserError(f"unknown command {name!r}: expected one of {', '.join(commands)}")
    return commands[name](rest)


def generate(arguments: Sequence[str]) -> ExitStatus:
    """Expand a grid into set files."""
    parser = Parser(
        prog="python -m src.sweep generate",
        description="Expand a grid into numbered set files, one run a line.",
    )
    parser.add_argument(
        "--grid", type=Path, metavar="FILE", help="YAML grid [the 864 runs of the reference sweep]"
    )
    parser.add_argument(
        "--out", type=Path, default=SETS_DIR, metavar="DIR", help="folder [hyperparameter_sets]"
    )
    parser.add_argument(
        "--per_file",
        type=positive,
        metavar="N",
        help="runs in a file [those of one model, scheduler and augmentation]",
    )
    parser.add_argument("--dry_run", action="store_true", help="write nothing")
    parsed = parser.parse(arguments)
    source = "reference grid" if parsed.grid is None else str(parsed.grid)
    values = dict(grid.REFERENCE) if parsed.grid is None else grid.read(parsed.grid)
    configs = grid.expand(values, source)
    cut = list(grid.by_set(configs, parsed.per_file))
    written = [] if parsed.dry_run else sets.write(cut, parsed.out)
    trainings = len({config.id for config in configs})
    print(f"{len(configs)} runs ({trainings} different trainings) in {len(cut)} set files")
    if written:
        print(f"{shown(written[0])} ... {written[-1].name}")
    return ExitStatus.DONE


def work(arguments: Sequence[str]) -> ExitStatus:
    """Train the runs of sets."""
    parser = Parser(
        prog="python -m src.sweep work",
        description="Train the runs of sets in one process. What is done is not trained again.",
    )
    parser.add_argument("numbers", nargs="*", metavar="N", help="numbers of the sets [all]")
    parser.add_argument(
        "--sets", type=Path, default=SETS_DIR, metavar="DIR", help="set files [hyperparameter_sets]"
    )
    parser.add_argument(
        "-d", "--base_dataset_path", metavar="DIR", help="in place of the sets' own"
    )
    parser.add_argument("--device", choices=DEVICES, help="in place of the sets' own")
    add_training_options(parser)
    parsed = parser.parse(arguments)
    by_set = _sets(parsed)
    configs = [_with_overrides(config, parsed) for runs in by_set.values() for config in runs]
    return train(configs, parsed)


def estimate(arguments: Sequence[str]) -> ExitStatus:
    """What sets or a grid will cost on this device."""
    parser = Parser(
        prog="python -m src.sweep estimate",
        description="What sets or a grid will cost on this device, if every run goes on to its "
        "last epoch, from a measurement of some seconds for each kind of run.",
    )
    parser.add_argument("numbers", nargs="*", metavar="N", help="numbers of the sets [all]")
    parser.add_argument(
        "--sets", type=Path, default=SETS_DIR, metavar="DIR", help="set files [hyperparameter_sets]"
    )
    parser.add_argument("--grid", type=Path, metavar="FILE", help="a YAML grid, instead of sets")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="[auto]")
    parser.add_argument(
        "--seconds", type=positive, default=3, metavar="S", help="to measure each kind of run [3]"
    )
    add_slots_option(parser)
    add_halving_options(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parsed = parser.parse(arguments)
    if parsed.grid is None:
        by_set = _sets(parsed)
    else:
        configs = grid.expand(grid.read(parsed.grid), str(parsed.grid))
        by_set = {str(n): runs for n, runs in enumerate(grid.by_set(configs), 1)}
    from src.sweep.estimate import report

    halving = halving_of(parsed)
    print(report(by_set, parsed.device, parsed.slots, parsed.seconds, halving, parsed.json))
    return ExitStatus.DONE


def _sets(parsed: Namespace) -> dict[str, list[RunConfig]]:
    """The runs of the sets that were named, or of all, by number."""
    return sets.read_numbered(parsed.sets, parsed.numbers)


def _with_overrides(config: RunConfig, parsed: object) -> RunConfig:
    given = {name: getattr(parsed, name) for name in ("base_dataset_path", "device")}
    return replace(config, **{name: value for name, value in given.items() if value is not None})


if __name__ == "__main__":
    door(main)
