"""Sweeps from the command line: python -m src.sweep COMMAND"""

from collections.abc import Sequence

from src.cli.entry_point import run_main, run_subcommand
from src.common.errors import ExitStatus

COMMANDS = {
    "generate": "expand a grid into numbered set files",
    "estimate": "seconds, device-hours and disk that they will take, from a short measurement",
    "submit": "train what is missing of them: as jobs of Slurm, in processes, or in this one",
    "work": "train the runs of one set, of several or of all, in this process",
    "status": "where a sweep stands: what is done, how fast it goes, what broke and what waits",
    "logs": "history, attempts, traceback and job log of a run",
    "retry": "forget failures, so that runs are tried again",
    "sync": "send runs to Weights & Biases that it was not told of",
    "cancel": "stop what works on runs, here and in Slurm",
}
"""What each does; src/sweep/commands/<name>.py does it."""


def main(arguments: Sequence[str]) -> ExitStatus:
    """Pass on to the command that the first argument names."""
    return run_subcommand("src.sweep", "Sweeps from the command line.", COMMANDS, arguments)


if __name__ == "__main__":
    run_main(main)
