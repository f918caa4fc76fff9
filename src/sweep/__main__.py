"""Sweeps from the command line: python -m src.sweep COMMAND"""

from collections.abc import Sequence
from importlib import import_module

from src.cli import door
from src.errors import ExitStatus, UserError

COMMANDS = {
    "generate": "expand a grid into numbered set files",
    "work": "train the runs of one set, of several or of all",
    "estimate": "seconds, device-hours and disk that they will take, from a short measurement",
    "status": "where a sweep stands: what is done, how fast it goes, what broke and what waits",
    "logs": "history, attempts, traceback and job log of a run",
    "retry": "forget failures, so that runs are tried again",
    "cancel": "stop what works on runs, here and in Slurm",
}
"""What each does; src/sweep/commands/<name>.py does it."""

_HELP = """Sweeps from the command line.

{commands}

`python -m src.sweep COMMAND --help` tells more."""


def main(arguments: Sequence[str]) -> ExitStatus:
    """Pass on to the command that the first argument names."""
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = (f"  {name:<11}{what}" for name, what in COMMANDS.items())
        print(_HELP.format(commands="\n".join(lines)))
        return ExitStatus.DONE if arguments else ExitStatus.BAD_INPUT
    name, *rest = arguments
    if name not in COMMANDS:
        raise UserError(f"unknown command {name!r}: expected one of {', '.join(COMMANDS)}")
    status: ExitStatus = import_module(f"src.sweep.commands.{name}").main(rest)
    return status


if __name__ == "__main__":
    door(main)
