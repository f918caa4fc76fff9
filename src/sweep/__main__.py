"""Sweeps from the command line: python -m src.sweep COMMAND"""

from collections.abc import Sequence

from src.cli.entry_point import run_main, run_subcommand
from src.common.errors import ExitStatus

COMMANDS = {
    "generate": "expand a grid into numbered set files",
    "estimate": "device-hours and disk space of a sweep, from a short measurement",
    "doctor": "check a cluster before the first sweep",
    "submit": "start workers for missing runs: Slurm jobs, processes, or this one",
    "work": "train the runs of one set, of several or of all, in this process",
    "status": "progress of a sweep: runs done, speed, time left, failures, jobs",
    "logs": "history, attempts, traceback and job log of a run",
    "confirm": "train the best configurations again, with fresh seeds",
    "retry": "delete failure records, so that runs are retried",
    "clean": "free the disk space of weights that are not among the best",
    "sync": "upload runs that are missing in Weights & Biases",
    "cancel": "stop the processes and Slurm jobs that train runs",
}
"""Description of each command, which is in src/sweep/commands/<name>.py."""


def main(arguments: Sequence[str]) -> ExitStatus:
    """Call the command that the first argument names."""
    return run_subcommand("src.sweep", "Sweeps from the command line.", COMMANDS, arguments)


if __name__ == "__main__":
    run_main(main)
