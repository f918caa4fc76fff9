"""What `python -m src.sweep submit` prints: a table, or JSON."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from src.cli.terminal import console, plain_table
from src.common.json_text import json_text
from src.common.paths import shown
from src.runs.run_folder import State
from src.sweep.launch.plan import WorkerPool
from src.sweep.launch.submit_options import SubmitOptions

_COLUMNS = ("", "runs", "done", "running", "given up", "to train", "workers", "minutes", "jobs")


def print_plan(
    options: SubmitOptions,
    pools: Sequence[WorkerPool],
    folder: Path,
    *,
    arrays: Sequence[Mapping[str, Any]] = (),
    texts: Mapping[str, str] | None = None,
) -> None:
    """Print what was submitted as `arrays`, or, if there are none, what would be.

    texts: the job scripts by name, which a dry run prints too.
    """
    rows = [_row(options, pool, arrays) for pool in pools]
    submits = any(pool.workers for pool in pools)
    has_folder = options.executor != "inline"  # which trains in this process
    if options.json:
        values = {
            "submission": int(folder.name) if submits and has_folder else None,
            "dry_run": options.dry_run,
            "groups": rows,
            "scripts": texts or {},
        }
        print(json_text(values))
        return
    console().print(_table(rows))
    if arrays:
        print(f"{shown(folder)}: sets, code, scripts and logs", file=sys.stderr)
    elif not submits:
        print(_why_nothing(pools))
    elif texts:
        print(f"\ndry run, nothing is submitted; scripts that would be in {shown(folder)}:")
        for label, text in texts.items():
            print(f"\n--- {label}.sh\n{text.rstrip()}")


def _row(
    options: SubmitOptions, pool: WorkerPool, arrays: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    pending, resources = pool.pending, options.resources
    own = [array for array in arrays if array["name"] == pending.name]
    finished = [State.DONE, State.PRUNED] if options.training.prune else [State.DONE]
    return {
        "group": pending.name,
        "runs": sum(pending.counts.values()),
        "done": sum(pending.counts[state] for state in finished),
        "running": pending.counts[State.RUNNING],
        "given_up": pending.given_up,
        "to_train": len(pending.todo),
        "workers": pool.workers,
        "minutes": resources.minutes_of.get(pending.name, resources.minutes)
        if options.on_slurm
        else None,
        "jobs": [
            array["job"] if "job" in array else str(process["pid"])
            for array in own
            for process in array.get("processes", [None])
        ],
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table()
    for name in _COLUMNS:
        is_text = name in ("", "jobs")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(
            *(" ".join(cell) if isinstance(cell, list) else str(cell or 0) for cell in row.values())
        )
    return table


def _why_nothing(pools: Sequence[WorkerPool]) -> str:
    unfinished = sum(pool.pending.unfinished for pool in pools)
    given_up = sum(pool.pending.given_up for pool in pools)
    why = (
        f"enough workers for the {unfinished} unfinished runs"
        if unfinished
        else "no run is left to train"
    )
    return f"nothing to submit: {why}" + (f"; {given_up} failed, not retried" if given_up else "")
