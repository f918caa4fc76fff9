"""Find a run by what a person types: its folder, its name, or the beginning of its id."""

import re
from pathlib import Path

from src.common.errors import UserError
from src.common.paths import CELLS, CONFIG, shown
from src.runs.run_folder import RunFolder, all_runs


def find(word: str, runs_dir: Path, option: str = "RUN") -> RunFolder:
    """The run whose folder, name or id (its first 4 digits or more) is `word`.

    Raises UserError, beginning with `option`, if no run or more than one matches.
    """
    if (Path(word) / CONFIG).is_file():
        return RunFolder(Path(word))
    hits = [run for run in all_runs(runs_dir) if _matches(run.path, word)]
    if not hits:
        raise UserError(
            f"{option} {word!r}: no such run under {shown(runs_dir)}: expected its folder, "
            "its name, or at least 4 digits of its id"
        )
    if len(hits) > 1:
        names = ", ".join(run.path.name for run in hits[:4]) + (", ..." if len(hits) > 4 else "")
        raise UserError(f"{option} {word!r}: {len(hits)} runs go by that: {names}")
    return hits[0]


def _matches(path: Path, word: str) -> bool:
    name, _, run_id = path.name.rpartition("-")
    if re.fullmatch("[0-9a-f]{4,10}", word) and run_id.startswith(word):
        return True
    cells = (cell.stem.rpartition("-")[0] for cell in (path / CELLS).glob("*.json"))
    return word in (name, path.name) or word in cells
