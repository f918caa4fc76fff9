"""Files of a run that `clean` has removed, recorded in cleaned.json of its folder."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from src.common import files
from src.common.paths import CLEANED


def record_removal(folder: Path, names: Sequence[str]) -> None:
    """Record that the files `names` of a run folder are removed today. Raises OSError."""
    before = files.read_json(folder / CLEANED) or {}
    today = datetime.now(UTC).date().isoformat()
    files.write_json(folder / CLEANED, {**before, **dict.fromkeys(names, today)})


def why_removed(path: Path) -> str | None:
    """Who removed a file of a run folder, in words. Returns None if it was not `clean`."""
    day = (files.read_json(path.parent / CLEANED) or {}).get(path.name)
    return f"`python -m src.sweep clean` removed it on {day}" if day else None
