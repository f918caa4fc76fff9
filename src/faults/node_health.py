"""Node health: failures that are evidence against a node, and the nodes that jobs should avoid.

Each is a file <runs>/node_failures/<n>.json, wherever it happened: within a run or before any.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from src.common import files, paths
from src.common.errors import NodeFailure, RestartNeeded
from src.faults.failure_classes import HARDWARE, INITIALISATION, FailureClass, classify
from src.slurm.client import node_name

BAD_NODE_THRESHOLD = 2
"""Pieces of evidence after which a node is bad: jobs of the sweep are kept off it."""
BAD_FOR_SECONDS = 86_400.0
"""Age at which evidence no longer counts."""

_PROCESS_UNUSABLE = (FailureClass.NODE, FailureClass.CUDA, FailureClass.FILE_SYSTEM)


@dataclass(frozen=True)
class NodeEvidence:
    """One failure of a node. symptom: the part of the message that makes it the node's."""

    node: str
    symptom: str
    written: float
    path: Path

    @property
    def is_hardware(self) -> bool:
        """Whether only a broken GPU does this. Otherwise other nodes tell whose fault it is."""
        return re.search(HARDWARE, self.symptom, re.IGNORECASE) is not None


def bad_nodes(runs_dir: Path) -> list[str]:
    """Names of the nodes that jobs should avoid.

    Those with evidence of BAD_NODE_THRESHOLD failures within the last day. A GPU that cannot be
    initialised is evidence only if no other node showed the same symptom, and runs succeeded on
    another one: otherwise a driver, an image or our own code is at fault.
    """
    evidence = [entry for entry in _evidence(runs_dir) if _is_recent(entry.written)]
    nodes_of: dict[str, set[str]] = {}
    for entry in evidence:
        nodes_of.setdefault(entry.symptom.lower(), set()).add(entry.node)
    own = [
        entry
        for entry in evidence
        if entry.is_hardware or len(nodes_of[entry.symptom.lower()]) == 1
    ]
    counts = Counter(entry.node for entry in own)
    suspects = {node for node, count in counts.items() if count >= BAD_NODE_THRESHOLD}
    broken = {node for node in suspects if any(o.is_hardware for o in own if o.node == node)}
    unproven = suspects - broken
    working = _nodes_at_work(runs_dir) if unproven else set()
    return sorted(broken | {node for node in unproven if working - {node}})


def forget_node_failures(runs_dir: Path) -> list[str]:
    """Remove all evidence. Returns the names of the nodes that it was against."""
    evidence = list(_evidence(runs_dir))
    for entry in evidence:
        entry.path.unlink(missing_ok=True)
    return sorted({entry.node for entry in evidence})


def raise_if_process_unusable(error: Exception, runs_dir: Path) -> None:
    """Raise RestartNeeded if `error` leaves this process unable to train any other run.

    That is NodeFailure, after recording the evidence, if it is evidence against the node.
    """
    failure = classify(error)
    if failure is FailureClass.NODE:
        _record(runs_dir, str(error))
        raise NodeFailure(_message(failure, error)) from error
    if failure in _PROCESS_UNUSABLE:
        raise RestartNeeded(_message(failure, error)) from error


@contextmanager
def reporting_unusable_process(runs_dir: Path) -> Iterator[None]:
    """Apply `raise_if_process_unusable` to errors that occur outside of a run."""
    try:
        yield
    except NodeFailure as failure:
        if failure.__cause__ is None:  # found before any run: nothing has recorded it
            _record(runs_dir, str(failure))
        raise
    except RestartNeeded:
        raise
    except Exception as error:
        if isinstance(error.__context__, RestartNeeded):  # a broken device fails at closing too
            raise error.__context__ from None
        raise_if_process_unusable(error, runs_dir)
        raise


def _record(runs_dir: Path, message: str) -> None:
    match = re.search(f"{HARDWARE}|{INITIALISATION}", message, re.IGNORECASE)
    record = {
        "node": node_name(),
        "symptom": match[0] if match else message,
        "message": message,
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }
    folder = paths.node_failures_dir(runs_dir)
    with suppress(OSError):  # the failure itself is reported in any case
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / f"{uuid4().hex}.json", record)


def _evidence(runs_dir: Path) -> Iterator[NodeEvidence]:
    for path in sorted(paths.node_failures_dir(runs_dir).glob("*.json")):
        record = files.read_json(path) or {}
        with suppress(FileNotFoundError):  # removed by `retry` meanwhile
            if record.get("node") and record.get("symptom"):
                written = path.stat().st_mtime
                yield NodeEvidence(str(record["node"]), str(record["symptom"]), written, path)


def _nodes_at_work(runs_dir: Path) -> set[str]:
    """Nodes on which an attempt of the last day trained: it saved its work, or has a heartbeat."""
    nodes = set()
    for path in runs_dir.glob(f"*/*/{paths.ATTEMPTS}/*.json"):
        record = files.read_json(path) or {}
        trained = record.get("ended", "alive" if record.get("heartbeat") else "") in (
            *("done", "pruned", "stopped", "alive"),
        )
        if trained and record.get("node") and _is_recent(path.stat().st_mtime):
            nodes.add(str(record["node"]))
    return nodes


def _is_recent(written: float) -> bool:
    return time.time() - written < BAD_FOR_SECONDS


def _message(failure: FailureClass, error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"{failure} on node {node_name()}: {type(error).__name__}: {first}"
