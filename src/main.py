"""Train one model: python src/main.py -d ./cifar-10 -m resnet -s step -a -l 0.001"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # python src/main.py: import from the repository, not from src/
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from src.cli.arguments import Parser
from src.cli.config_flags import add_config_flags, config_from, flags_without_effect
from src.cli.entry_point import run_main
from src.common.errors import ExitStatus
from src.train import TrainingOptions, add_training_options, dataset_at, train


def main(arguments: Sequence[str]) -> ExitStatus:
    """Flags -> RunConfig -> run."""
    parser = Parser(
        prog="python src/main.py",
        description="Train one model. A run that is done is not trained again.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file; flags win over it")
    parser.add_argument(
        "--continue",
        dest="parent_path",
        type=Path,
        metavar="PATH",
        help="a new run with the settings and the weights of an earlier one: its folder, or a .pt "
        "file in it; -e: epochs from there on",
    )
    add_config_flags(parser)
    add_training_options(parser)
    parsed = parser.parse(arguments)
    config, finds_rate = config_from(parsed, dataset_at)
    if not parsed.quiet and (line := flags_without_effect(parsed, config)):
        print(line, file=sys.stderr)
    if finds_rate:
        from src.tune.lr_range_test import with_suggested_rate

        config = with_suggested_rate(config, parsed.runs, parsed.quiet)
    return train([config], TrainingOptions.parsed(parsed))


if __name__ == "__main__":
    run_main(main)
