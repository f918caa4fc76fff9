"""Show the status of a sweep, from its run folders and one call of squeue."""

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from src.cli.arguments import Parser, seconds
from src.cli.common_options import add_json_option, add_runs_option
from src.cli.terminal import console
from src.common.errors import ExitStatus, UserError
from src.common.json_text import json_text
from src.common.paths import SETS_DIR, shown
from src.config import RunConfig
from src.runs.model_versions import changes
from src.slurm import job_poller
from src.sweep import sets
from src.sweep.command_options import (
    add_data_override,
    add_grid_option,
    add_sets_options,
    configs_by_set,
)
from src.sweep.status import run_states, screen
from src.sweep.status.overview import Overview, decided_precisions, overview

ConfigsBySet = Mapping[str, Sequence[RunConfig]]

_REDRAW_SECONDS = 5.0
_SQUEUE_TIMEOUT_SECONDS = 5.0  # a screen without the queue is better than none


def main(arguments: Sequence[str]) -> ExitStatus:
    """Print the status once, or keep it up to date on the screen."""
    parsed = _parser().parse(arguments)
    if parsed.json and parsed.watch:
        raise UserError("--watch, --json: expected one of them")
    if parsed.outside:
        return _print_outside(parsed)
    selected = _selected_sets(parsed)
    for line in changes([run for runs in (selected or {}).values() for run in runs], parsed.runs):
        print(line, file=sys.stderr)
    read = partial(_read_overview, selected, parsed.runs, each_run=parsed.each_run)
    if parsed.watch:
        return _watch(read, parsed.watch)
    now = read()
    if parsed.json:
        print(json_text(asdict(now)))
    else:
        console().print(screen.render(now))
    return ExitStatus.DONE


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep status",
        description="Show the progress of a sweep, from its run folders and one call of squeue "
        "if there is one. Without set files: all run folders.",
    )
    add_sets_options(parser)
    add_grid_option(parser)
    add_data_override(parser)
    parser.add_argument(
        "--all", action="store_true", help="all run folders, also those outside of the sets"
    )
    parser.add_argument(
        "--outside",
        action="store_true",
        help="list the run folders that belong to none of the sets",
    )
    parser.add_argument(
        "--each_run", action="store_true", help="rank single runs, not means over seeds"
    )
    add_runs_option(parser)
    parser.add_argument(
        "--watch",
        nargs="?",
        type=seconds,
        const=_REDRAW_SECONDS,
        metavar="SECONDS",
        help=f"refresh the screen at this interval, until Ctrl-C [{_REDRAW_SECONDS:g}]",
    )
    add_json_option(parser)
    return parser


def _print_outside(parsed: Namespace) -> ExitStatus:
    """Print the folders outside of the sets. Raises UserError for flags that do not fit."""
    if parsed.all or parsed.watch:
        other = "--all" if parsed.all else "--watch"
        raise UserError(f"--outside, {other}: expected one of them")
    folders = run_states.outside_of_sets(configs_by_set(parsed), parsed.runs)
    if parsed.json:
        rows = [{"folder": str(path), "state": state} for path, state in folders]
        print(json_text(rows))
        return ExitStatus.DONE
    for path, state in folders:
        print(f"{state:<11} {shown(path)}")
    print(f"{len(folders)} run folders belong to none of these sets")
    return ExitStatus.DONE


def _selected_sets(parsed: Namespace) -> ConfigsBySet | None:
    """The sets to show. None for all run folders.

    Raises UserError for sets that do not exist, or that do not go with --all.
    """
    of_sets = parsed.numbers or parsed.grid or parsed.base_dataset_path
    has_selection = bool(of_sets or parsed.sets != SETS_DIR)
    if parsed.all and has_selection:
        raise UserError("--all: it shows every run folder; expected no sets with it")
    if parsed.all or not (has_selection or sets.numbered(SETS_DIR)):
        return None
    return configs_by_set(parsed)


def _read_overview(selected: ConfigsBySet | None, runs_dir: Path, *, each_run: bool) -> Overview:
    """The status as it is now. each_run: rank single runs, not means over seeds."""
    queued = job_poller.shared.jobs(timeout=_SQUEUE_TIMEOUT_SECONDS)
    precisions = decided_precisions(runs_dir)
    if selected is None:
        runs, outside = run_states.of_folders(runs_dir), 0
    else:
        runs, outside = run_states.of_sets(selected, runs_dir)
    return overview(runs, queued, outside, each_run=each_run, precisions=precisions)


def _watch(read: Callable[[], Overview], seconds: float) -> ExitStatus:
    from rich.live import Live

    try:
        with Live(console=console(), auto_refresh=False) as live:
            while True:
                live.update(screen.render(read()), refresh=True)
                time.sleep(seconds)
    except KeyboardInterrupt:
        return ExitStatus.DONE
