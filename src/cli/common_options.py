"""Options that mean the same in several commands."""

import argparse
from pathlib import Path

from src.common.paths import RUNS_DIR


def add_runs_option(parser: "argparse._ActionsContainer") -> None:
    """Add --runs, the folder of the run folders."""
    parser.add_argument(
        "--runs", type=Path, default=RUNS_DIR, metavar="DIR", help="run folders [saved_models]"
    )


def add_json_option(parser: "argparse._ActionsContainer") -> None:
    """Add --json: nothing but JSON on stdout."""
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def add_model_option(parser: "argparse._ActionsContainer") -> None:
    """Add --model_type to a command that reads run folders; without it no attribute is left."""
    parser.add_argument(
        "-m",
        "--model_type",
        default=argparse.SUPPRESS,
        metavar="MODEL",
        help="FILE.py:NAME or PACKAGE.MODULE:NAME of a run of your own architecture, whose code "
        "is run only if you name it",
    )
