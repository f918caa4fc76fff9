"""Name files of run folders that cannot be read: each once, whoever reads it again."""

import sys
from pathlib import Path

from src.common.paths import shown

_named: set[str] = set()


def name_once(path: Path | str, consequence: str) -> None:
    """Print to stderr that a file is damaged, and what follows, unless this process has."""
    if str(path) not in _named:
        _named.add(str(path))
        print(f"{shown(Path(path))}: damaged; {consequence}", file=sys.stderr)


def forget() -> None:
    """Name all files again."""
    _named.clear()
