"""Tuning from the command line: python -m src.tune COMMAND"""

from collections.abc import Sequence

from src.cli.entry_point import run_main, run_subcommand
from src.common.errors import ExitStatus

COMMANDS = {
    "lr-find": "suggest a learning rate by a range test of some training steps",
    "search": "search settings within ranges by TPE and pruning",
}
"""Description of each command, which is in src/tune/commands/<name>.py."""


def main(arguments: Sequence[str]) -> ExitStatus:
    """Call the command that the first argument names."""
    return run_subcommand("src.tune", "Tuning from the command line.", COMMANDS, arguments)


if __name__ == "__main__":
    run_main(main)
