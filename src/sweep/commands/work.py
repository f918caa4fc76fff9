"""Train the runs of sets."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace

from src.cli import Parser, add_training_options, train
from src.config import DEVICES, RunConfig
from src.errors import ExitStatus
from src.sweep.options import add_sets_options, by_set


def main(arguments: Sequence[str]) -> ExitStatus:
    """Train what is not done of the sets."""
    parsed = _parser().parse(arguments)
    runs = (config for members in by_set(parsed).values() for config in members)
    return train([_with_overrides(config, parsed) for config in runs], parsed)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep work",
        description="Train the runs of sets in one process. What is done is not trained again.",
    )
    add_sets_options(parser)
    parser.add_argument(
        "-d", "--base_dataset_path", metavar="DIR", help="in place of the sets' own"
    )
    parser.add_argument("--device", choices=DEVICES, help="in place of the sets' own")
    add_training_options(parser)
    return parser


def _with_overrides(config: RunConfig, parsed: Namespace) -> RunConfig:
    given = {name: getattr(parsed, name) for name in ("base_dataset_path", "device")}
    return replace(config, **{name: value for name, value in given.items() if value is not None})
