"""Nodes that fail runs: noted in attempts, and left to others where that is repeated."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.common import files, paths
from src.common.errors import NodeTrouble
from src.faults.failure_classes import Cause, cause_of
from src.runs.leases import node

REPEATED = 2
"""A node that failed so many attempts is one not to come back to."""


def troubled_nodes(runs_dir: Path) -> list[str]:
    """Nodes that by their own trouble failed attempts at runs under `runs_dir` repeatedly."""
    records = map(files.read_json, runs_dir.glob(f"*/*/{paths.ATTEMPTS}/*.json"))
    told = [record for record in records if record and record.get("cause") == Cause.NODE]
    counts = Counter(str(record["node"]) for record in told if record.get("node"))
    return sorted(name for name, count in counts.items() if count >= REPEATED)


def require_sound_node(error: Exception, runs_dir: Path) -> None:
    """Raise NodeTrouble where that is what broke a run, whose attempt tells so already."""
    if cause_of(error) is Cause.NODE:
        raise NodeTrouble(_told(error), troubled_nodes(runs_dir)) from error


@contextmanager
def blamed_on_node(runs_dir: Path) -> Iterator[None]:
    """Turn node trouble into NodeTrouble; what no attempt could tell of counts as repeated."""
    try:
        yield
    except NodeTrouble:
        raise
    except Exception as error:
        if isinstance(error.__context__, NodeTrouble):  # what is broken does not close either
            raise error.__context__ from None
        if cause_of(error) is not Cause.NODE:
            raise
        exclude = {*troubled_nodes(runs_dir), node()}
        raise NodeTrouble(_told(error), sorted(exclude)) from error


def _told(error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"trouble of node {node()}: {type(error).__name__}: {first}"
