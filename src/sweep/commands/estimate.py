"""Estimate the cost of sets or a grid on this device."""

from collections.abc import Sequence

from src.cli.arguments import Parser, positive_int
from src.cli.common_options import add_json_option, add_runs_option
from src.cli.config_flags import value_of_field
from src.common.errors import ExitStatus
from src.sweep import measured_speeds
from src.sweep.command_options import (
    add_grid_option,
    add_sets_options,
    configs_by_set,
    read_blocks,
    sets_of_blocks,
)
from src.sweep.grid_summary import summarize
from src.train import add_halving_options, add_slots_option, parsed_halving


def main(arguments: Sequence[str]) -> ExitStatus:
    """Measure, keep the speeds, and print the cost."""
    parsed = _parser().parse(arguments)
    blocks = read_blocks(parsed) if parsed.grid else []
    sets = sets_of_blocks(blocks) if parsed.grid else configs_by_set(parsed)
    from src.sweep.estimate import measure_speeds, report  # torch, which takes seconds

    configs = [config for runs in sets.values() for config in runs]
    measured = measure_speeds(configs, parsed.device, parsed.slots, parsed.seconds)
    measured_speeds.save(measured, parsed.runs)
    halving, summaries = parsed_halving(parsed), summarize(blocks)
    print(report(sets, measured, halving, summaries, parsed.json))
    return ExitStatus.DONE


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep estimate",
        description="Estimate the cost of sets or a grid on this device, if every run is "
        "trained to its last epoch. Each kind of run is measured for some seconds. The speeds are "
        "kept in --runs, where submit --time auto reads them.",
    )
    add_sets_options(parser)
    add_grid_option(parser)
    add_runs_option(parser)
    parser.add_argument(
        "--device",
        type=value_of_field("device"),
        metavar="DEVICE",
        default="auto",
        help="where to measure; auto: a GPU if there is one [auto]",
    )
    parser.add_argument(
        "--seconds",
        type=positive_int,
        default=3,
        metavar="S",
        help="to measure each kind of run [3]",
    )
    add_slots_option(parser)
    add_halving_options(parser)
    add_json_option(parser)
    return parser
