"""Train the runs of sets."""

from collections.abc import Sequence

from src.cli.arguments import Parser
from src.common.errors import ExitStatus
from src.sweep.command_options import add_overrides, add_sets_options, selected_configs
from src.train import DEFAULT_RETRIES, TrainingOptions, add_training_options, train


def main(arguments: Sequence[str]) -> ExitStatus:
    """Train the unfinished runs of the sets."""
    parsed = _parser().parse(arguments)
    options = TrainingOptions.parsed(parsed)
    return train(selected_configs(parsed), options, parsed.sets.resolve().name)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep work",
        description="Train the runs of sets in one process. What is done is not trained again.",
    )
    add_sets_options(parser)
    add_overrides(parser)
    add_training_options(parser, retries=DEFAULT_RETRIES)
    return parser
