"""What `python -m src.sweep submit` prints: a table, or JSON."""

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.common.paths import shown
from src.runs.run_folder import State
from src.sweep.launch.plan import WorkerPool
from src.sweep.launch.submit_options import resources_of

_COLUMNS = ("", "runs", "done", "running", "given up", "to train", "workers", "minutes", "jobs")


def show(
    asked: Namespace,
    teams: Sequence[WorkerPool],
    folder: Path,
    *,
    arrays: Sequence[Mapping[str, Any]] = (),
    texts: Mapping[str, str] | None = None,
) -> None:
    """Print what is submitted, or, without `arrays`, what would be.

    texts: the scripts, by name, that a dry run shows too.
    """
    rows = [_row(asked, team, arrays) for team in teams]
    submits = any(team.workers for team in teams)
    if asked.json:
        told = {
            "submission": int(folder.name) if submits else None,
            "dry_run": asked.dry_run,
            "groups": rows,
            "scripts": texts or {},
        }
        print(json.dumps(told, indent=2))
        return
    print(table(rows))
    if arrays:
        print(f"{shown(folder)}: sets, code, scripts and logs", file=sys.stderr)
    elif not submits:
        print(_nothing(teams))
    elif texts:
        print(f"\nnothing is submitted; it would be from {shown(folder)}:")
        for label, text in texts.items():
            print(f"\n--- {label}.sh\n{text.rstrip()}")


def _row(asked: Namespace, team: WorkerPool, arrays: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    stand, resources = team.standing, resources_of(asked)
    ours = [array for array in arrays if array["name"] == stand.name]
    finished = [State.DONE, State.PRUNED] if asked.prune else [State.DONE]
    return {
        "group": stand.name,
        "runs": sum(stand.counts.values()),
        "done": sum(stand.counts[state] for state in finished),
        "running": stand.counts[State.RUNNING],
        "given_up": stand.given_up,
        "to_train": len(stand.todo),
        "workers": team.workers,
        "minutes": resources.minutes_of.get(stand.name, resources.minutes)
        if asked.executor == "slurm"
        else None,
        "jobs": [
            array["job"] if "job" in array else str(process["pid"])
            for array in ours
            for process in array.get("processes", [None])
        ],
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as lines with aligned columns."""
    cells = [list(_COLUMNS)] + [
        [" ".join(cell) if isinstance(cell, list) else str(cell or 0) for cell in row.values()]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(_line(line, widths) for line in cells)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Names and jobs to the left, numbers to the right."""
    name, *numbers, jobs = cells
    right = (cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True))
    return "  ".join([name.ljust(widths[0]), *right, jobs]).rstrip()


def _nothing(teams: Sequence[WorkerPool]) -> str:
    left = sum(team.standing.unfinished for team in teams)
    given_up = sum(team.standing.given_up for team in teams)
    why = f"enough workers for the {left} runs that are left" if left else "no run is left to train"
    return f"nothing to submit: {why}" + (f"; {given_up} failed for good" if given_up else "")
