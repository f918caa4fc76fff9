"""Options that several commands share, and the runs that they select."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.cli.arguments import Parser
from src.cli.config_flags import value_of_field
from src.common.errors import UserError
from src.common.paths import SETS_DIR
from src.config import RunConfig
from src.runs.run_folder import RunFolder, all_runs
from src.runs.run_lookup import find
from src.sweep import grid, sets
from src.sweep.grid import ExpandedBlock


def add_sets_options(parser: Parser) -> None:
    """Add the numbers of sets, and --sets."""
    parser.add_argument("numbers", nargs="*", metavar="N", help="numbers of the sets [all]")
    parser.add_argument(
        "--sets", type=Path, default=SETS_DIR, metavar="DIR", help="set files [hyperparameter_sets]"
    )


def add_grid_option(parser: Parser) -> None:
    """Add --grid, in place of sets."""
    parser.add_argument("--grid", type=Path, metavar="FILE", help="a YAML grid, instead of sets")


def add_run_arguments(parser: Parser) -> None:
    """Add RUN ..., --all and --dry_run."""
    parser.add_argument(
        "run",
        nargs="*",
        metavar="RUN",
        help="a run's folder, its name, or at least 4 digits of its id",
    )
    parser.add_argument("--all", action="store_true", help="every run under --runs")
    parser.add_argument("--dry_run", action="store_true", help="change nothing")


def selected_runs(parsed: Namespace, *, otherwise_all: bool = False) -> list[RunFolder]:
    """The named runs, or all. Raises UserError if one does not exist, or none is named."""
    everything = parsed.all or (otherwise_all and not parsed.run)
    if bool(parsed.run) == bool(everything):
        raise UserError("which runs? expected RUN ..., or --all")
    if everything:
        return list(all_runs(parsed.runs))
    by_path = {run.path.resolve(): run for word in parsed.run for run in [find(word, parsed.runs)]}
    return list(by_path.values())


def configs_by_set(parsed: Namespace) -> dict[str, list[RunConfig]]:
    """The runs of the named sets, of all sets, or of --grid, by the number of the set.

    Settings of the command replace those of the sets. Raises UserError if a set is missing, or
    there is none.
    """
    if getattr(parsed, "grid", None):
        configs = sets_of_blocks(read_blocks(parsed))
    else:
        configs = sets.read_numbered(parsed.sets, parsed.numbers)
    overrides = {name: getattr(parsed, name, None) for name in ("base_dataset_path", "device")}
    given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    if not given:
        return configs
    return {name: [replace(config, **given) for config in runs] for name, runs in configs.items()}


def read_blocks(parsed: Namespace) -> list[ExpandedBlock]:
    """The blocks of --grid. Raises UserError."""
    if parsed.numbers:
        raise UserError(f"--grid {str(parsed.grid)!r}: sets have numbers, a grid has none")
    return grid.expand_blocks(grid.read(parsed.grid), str(parsed.grid))


def sets_of_blocks(blocks: Sequence[ExpandedBlock]) -> dict[str, list[RunConfig]]:
    """The runs of a grid by the number of the set that they would be in."""
    configs = [config for block in blocks for config in block.cells]
    return {str(number): runs for number, runs in enumerate(grid.split_into_sets(configs), 1)}


def add_data_override(parser: Parser) -> None:
    """Add -d, which replaces the data folder of the sets."""
    parser.add_argument(
        "-d", "--base_dataset_path", metavar="DIR", help="data folder, instead of the sets' own"
    )


def add_overrides(parser: Parser) -> None:
    """Add settings that replace those of the sets."""
    add_data_override(parser)
    parser.add_argument(
        "--device",
        type=value_of_field("device"),
        metavar="DEVICE",
        help="in place of the sets' own",
    )


def selected_configs(parsed: Namespace) -> list[RunConfig]:
    """The runs of `configs_by_set` in order."""
    return [config for members in configs_by_set(parsed).values() for config in members]
