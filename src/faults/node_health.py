"""Nodes that fail runs: noted in attempts, and left to others where that is repeated."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.common import files, paths
from src.common.errors import NodeFailure
from src.faults.failure_classes import FailureClass, classify
from src.runs.leases import node

REPEATED = 2
"""A node that failed so many attempts is one not to come back to."""


def bad_nodes(runs_dir: Path) -> list[str]:
    """Nodes that by their own trouble failed attempts at runs under `runs_dir` repeatedly."""
    records = map(files.read_json, runs_dir.glob(f"*/*/{paths.ATTEMPTS}/*.json"))
    told = [record for record in records if record and record.get("cause") == FailureClass.NODE]
    counts = Counter(str(record["node"]) for record in told if record.get("node"))
    return sorted(name for name, count in counts.items() if count >= REPEATED)


def raise_if_node_failed(error: Exception, runs_dir: Path) -> None:
    """Raise NodeTrouble where that is what broke a run, whose attempt tells so already."""
    if classify(error) is FailureClass.NODE:
        raise NodeFailure(_told(error), bad_nodes(runs_dir)) from error


@contextmanager
def reporting_node_failures(runs_dir: Path) -> Iterator[None]:
    """Turn node trouble into NodeTrouble; what no attempt could tell of counts as repeated."""
    try:
        yield
    except NodeFailure:
        raise
    except Exception as error:
        if isinstance(error.__context__, NodeFailure):  # what is broken does not close either
            raise error.__context__ from None
        if classify(error) is not FailureClass.NODE:
            raise
        exclude = {*bad_nodes(runs_dir), node()}
        raise NodeFailure(_told(error), sorted(exclude)) from error


def _told(error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"trouble of node {node()}: {type(error).__name__}: {first}"
