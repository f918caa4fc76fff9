"""Node health: failures that are a node's own, counted in attempt records, and bad nodes named."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.common import files, paths
from src.common.errors import NodeFailure
from src.faults.failure_classes import FailureClass, classify
from src.slurm.client import node_name

BAD_NODE_THRESHOLD = 2
"""Failed attempts after which a node is bad: jobs of the sweep are kept off it."""


def bad_nodes(runs_dir: Path) -> list[str]:
    """Names of the nodes whose own failures ended BAD_NODE_THRESHOLD attempts or more."""
    records = map(files.read_json, runs_dir.glob(f"*/*/{paths.ATTEMPTS}/*.json"))
    failed = [record for record in records if record and record.get("cause") == FailureClass.NODE]
    counts = Counter(str(record["node"]) for record in failed if record.get("node"))
    return sorted(name for name, count in counts.items() if count >= BAD_NODE_THRESHOLD)


def raise_if_node_failed(error: Exception, runs_dir: Path) -> None:
    """Raise NodeFailure if `error` is the node's own; the attempt's record says so already."""
    if classify(error) is FailureClass.NODE:
        raise NodeFailure(_message(error), bad_nodes(runs_dir)) from error


@contextmanager
def reporting_node_failures(runs_dir: Path) -> Iterator[None]:
    """Turn an error that is the node's own into NodeFailure.

    An error outside of any attempt is in no record: it makes this node bad at once.
    """
    try:
        yield
    except NodeFailure:
        raise
    except Exception as error:
        if isinstance(error.__context__, NodeFailure):  # a broken device fails at closing too
            raise error.__context__ from None
        if classify(error) is not FailureClass.NODE:
            raise
        exclude = {*bad_nodes(runs_dir), node_name()}
        raise NodeFailure(_message(error), sorted(exclude)) from error


def _message(error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"trouble of node {node_name()}: {type(error).__name__}: {first}"
