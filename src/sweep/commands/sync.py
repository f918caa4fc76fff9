"""Upload finished runs that are missing or incomplete in Weights & Biases."""

import os
import sys
import time
from collections.abc import Sequence

from src.cli.arguments import Parser, positive_int
from src.cli.common_options import add_runs_option
from src.common.errors import ExitStatus, UserError, class_and_message
from src.common.paths import HISTORY, shown
from src.common.progress import show_progress
from src.runs.damaged_files import name_once
from src.runs.run_folder import RunFolder
from src.sweep.command_options import add_run_arguments, selected_runs
from src.tracking import wandb_run
from src.tracking.wandb_run import ENDED, WandbRun, uploaded

_TRIES = 5
_FIRST_WAIT_SECONDS = 5.0  # then twice as long each time
_PATIENCE = 3  # runs in a row that cannot be sent


def main(arguments: Sequence[str]) -> ExitStatus:
    """Upload the selected runs that have ended, each once."""
    parsed = _parser().parse(arguments)
    runs = selected_runs(parsed, otherwise_all=True)
    states = [(run, run.state()) for run in runs]
    ended = [(run, state) for run, state in states if state in ENDED]
    new = [run for run, state in ended if uploaded(run) != state]
    counted = f"{len(ended) - len(new)} are there already, {len(runs) - len(ended)} not over yet"
    if parsed.dry_run:
        for run in new:
            print(shown(run.path))
        print(f"{len(new)} runs would be sent; {counted}")
        return ExitStatus.DONE
    if new:
        _require_wandb()
    sweep = parsed.sweep or parsed.runs.resolve().name
    sent = _send_all(new, sweep, pause=60 / parsed.per_minute)
    print(f"{sent} of {len(new)} runs were sent; {counted}")
    return ExitStatus.DONE if sent == len(new) else ExitStatus.SOME_RUNS_FAILED


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep sync",
        description="Upload runs that have ended to Weights & Biases, from their run folders, "
        "also those trained with --wandb offline or disabled. Complete uploads are not "
        "repeated. WANDB_PROJECT, WANDB_ENTITY and WANDB_BASE_URL set the destination.",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--sweep",
        metavar="NAME",
        help="name of their group in Weights & Biases [the name of --runs]",
    )
    parser.add_argument(
        "--per_minute",
        type=positive_int,
        default=60,
        metavar="N",
        help="upload at most N runs a minute [60]",
    )
    add_runs_option(parser)
    return parser


def _require_wandb() -> None:
    """Raise UserError if no upload is possible."""
    try:
        import wandb  # noqa: F401
    except ImportError:
        raise UserError("wandb is not installed: pip install -r requirements.txt") from None
    if os.environ.get("WANDB_MODE", "online") != "online":
        raise UserError(f"WANDB_MODE {os.environ['WANDB_MODE']!r}: expected online, or none")
    if not wandb_run.has_key():
        raise UserError("wandb has no key: expected `wandb login` before, or WANDB_API_KEY")


def _send_all(runs: Sequence[RunFolder], sweep: str, *, pause: float) -> int:
    """Upload runs at least `pause` seconds apart. Returns how many succeeded."""
    sent = in_vain = 0
    for run in show_progress(runs, "runs sent"):
        began = time.monotonic()
        if _send(run, sweep):
            sent, in_vain = sent + 1, 0
        else:
            in_vain += 1
        if in_vain == _PATIENCE:
            print(f"given up after {_PATIENCE} runs in a row", file=sys.stderr)
            break
        time.sleep(max(0.0, began + pause - time.monotonic()))
    return sent


def _send(run: RunFolder, sweep: str) -> bool:
    """Upload one run, with retries. A run whose history is damaged is not uploaded."""
    try:
        run.history()
    except ValueError:
        name_once(run.path / HISTORY, "the run is not sent")
        return False
    wait = _FIRST_WAIT_SECONDS
    for attempt in range(1, _TRIES + 1):
        try:
            WandbRun(run, mode="online", sweep=sweep, place=run.path.parent.parent).finish()
        except Exception as error:  # noqa: BLE001  whatever wandb may raise
            print(f"{run.path.name}: {class_and_message(error)}", file=sys.stderr)
            if attempt < _TRIES:
                time.sleep(wait)
                wait *= 2
        else:
            return True
    return False
