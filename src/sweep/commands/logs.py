"""Print the epochs, attempts, traceback and job log of a run."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from src.cli.arguments import Parser, positive_int
from src.cli.common_options import add_runs_option
from src.cli.terminal import console, duration, plain_table
from src.common.errors import ExitStatus
from src.common.paths import HISTORY, shown
from src.runs.damaged_files import name_once
from src.runs.run_folder import RunFolder
from src.runs.run_lookup import find
from src.runs.snapshot import Snapshot, State
from src.sweep import job_logs

_LINES = 20
_POLL_SECONDS = 1.0
_COLUMNS = ("epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")


def main(arguments: Sequence[str]) -> ExitStatus:
    """Print the logs of a run, and with --follow what is added to them."""
    parsed = _parser().parse(arguments)
    run = find(parsed.run, parsed.runs)
    now, rows = Snapshot(run.path), _rows(run)
    log = _log(now, parsed.runs)
    print(f"{shown(run.path)}: {now.state}")
    if rows:
        console().print(epochs(rows[-parsed.n :]))
    if now.attempts:
        console().print(attempts_table(now))
    if failure := run.failure():
        print(failure.get("traceback") or f"{failure.get('kind')}: {failure.get('message')}")
    if log:
        print(f"{shown(log)}:\n{job_logs.tail(log, parsed.n)}", end="")
    if parsed.follow:
        _follow(run, _new_text(log) if log else _new_epochs(run, len(rows)))
    return ExitStatus.DONE


def epochs(rows: Sequence[dict[str, Any]]) -> Table:
    """A history as a table, with accuracies in percent."""
    table = plain_table()
    for name in _COLUMNS:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(_cell(name, row.get(name)) for name in _COLUMNS))
    return table


def attempts_table(run: Snapshot) -> Table:
    """The attempts at a run: node, duration and end of each."""
    table = plain_table("attempt", "host", "job", "started")
    table.add_column("lasted", justify="right")
    table.add_column("ended")
    for number, attempt in enumerate(run.attempts, 1):
        record, newest = attempt.record, number == len(run.attempts)
        silently = "may be running" if newest and run.alive else "no end recorded: killed"
        table.add_row(
            str(record["attempt"]),
            str(record.get("host", "?")),
            str(record.get("slurm_job_id") or "-"),
            str(record.get("started", "?")),
            duration(attempt.seconds),
            str(record.get("ended", silently)),
        )
    return table


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep logs",
        description="Show the epochs of a run, its attempts, its failure, and the end of the "
        "log of its last job, if that can be found.",
    )
    parser.add_argument(
        "run", metavar="RUN", help="a run's folder, its name, or at least 4 digits of its id"
    )
    parser.add_argument(
        "-n",
        type=positive_int,
        default=_LINES,
        metavar="LINES",
        help=f"show the last LINES epochs and log lines [{_LINES}]",
    )
    parser.add_argument(
        "--follow", action="store_true", help="go on while the run does, until Ctrl-C"
    )
    add_runs_option(parser)
    return parser


def _rows(run: RunFolder) -> list[dict[str, Any]]:
    try:
        return run.history()
    except ValueError:
        name_once(run.path / HISTORY, "its epochs are not shown")
        return []


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if "accuracy" in name:
        return f"{value:.2%}"
    return f"{value:.4f}" if "loss" in name else f"{value:.4g}"


def _log(run: Snapshot, runs_dir: Path) -> Path | None:
    """The log of the newest job of a run."""
    for attempt in reversed(run.attempts):
        # of a task, as submit names its logs, and then as the job scripts do
        jobs = filter(None, (attempt.record.get(key) for key in ("slurm_job", "slurm_job_id")))
        if names := list(dict.fromkeys(jobs)):
            return next(filter(None, (job_logs.find(job, runs_dir) for job in names)), None)
    return None


def _follow(run: RunFolder, more: Callable[[], str]) -> None:
    """Print what is appended, until the run ends or the user interrupts."""
    try:
        state = State.RUNNING
        while state == State.RUNNING:
            time.sleep(_POLL_SECONDS)
            state = run.state()  # before the last look
            print(more(), end="", flush=True)
        print(f"{shown(run.path)}: {state}")
    except KeyboardInterrupt:
        pass


def _new_text(log: Path) -> Callable[[], str]:
    """Text that is appended to a file from now on."""
    file = log.open(errors="replace")
    file.seek(0, 2)
    return file.read


def _new_epochs(run: RunFolder, seen: int) -> Callable[[], str]:
    """A line for each new epoch."""

    def more() -> str:
        nonlocal seen
        new = _rows(run)[seen:]
        seen += len(new)
        return "".join(
            "  ".join(f"{name} {_cell(name, row.get(name))}" for name in _COLUMNS) + "\n"
            for row in new
        )

    return more
