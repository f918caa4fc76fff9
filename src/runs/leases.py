"""Leases: which process owns a run. One file per attempt, created with link(2).

A lease is a file attempts/<n>.json, and the highest n owns the run. Why it is safe on a file
system that many machines share:

- link(2) either creates the file with its whole content or fails: also on NFS, where O_EXCL has
  not always been atomic, and where a reader may see a file that was created but not yet written.
- An attempt's file is never deleted. A number that was deleted could be taken twice: once by a
  process that has seen the file, and once by one that has not.
- A heartbeat is a counter. Clocks of two machines differ, so that no time in a file tells how old
  it is; that the counter stands still can be seen by anybody's own clock.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from src.common import files, paths, processes
from src.common.errors import LeaseLost
from src.slurm import client, job_poller

HEARTBEAT_SECONDS = 30.0
MISSED_HEARTBEATS = 10
"""A lease whose heartbeat has stood still for so many intervals may be taken over."""

AttemptRecord = dict[str, Any]
"""The content of attempts/<n>.json."""


class Lease:
    """This process's lease of a run. A thread advances its heartbeat until `end`."""

    def __init__(self, folder: Path, number: int, record: AttemptRecord) -> None:
        self.folder, self.number, self.record = folder, number, record
        self.progressed = False
        """Whether this process has saved a step of training, or trained the run to its end."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def ensure_held(self) -> None:
        """Raise LeaseLost if another process has taken the run over."""
        if max(attempt_numbers(self.folder), default=0) > self.number:
            raise LeaseLost(f"attempt {self.number} of {self.folder.name} was taken over")

    def cause_of(self, error: Exception) -> Exception:
        """`error`, or LeaseLost if it came of another process that has taken the run over.

        That process removes the file that this one is writing, which then says ENOENT, or on NFS
        ESTALE: neither the run nor the node is at fault.
        """
        try:
            if isinstance(error, OSError):
                self.ensure_held()
        except LeaseLost as lost:
            return lost
        except OSError:
            return error
        return error

    def end(self, how: str, **details: str) -> None:
        """Record that this attempt is over. Does nothing if that is recorded already.

        how: done, pruned, failed, stopped, superseded (the lease was lost), unneeded (the run was
        already finished when it was leased), or over (the trial of a search).
        """
        if self._over.is_set():
            return
        self._over.set()
        self.progressed |= how in ("done", "pruned")
        self._thread.join()
        ended = {**self.record, "ended": how, **details}
        files.write_json(_file(self.folder, self.number), ended)

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_SECONDS):
            self.record["heartbeat"] += 1
            with suppress(OSError):  # the file system may recover: the next beat counts as well
                path = _file(self.folder, self.number)
                files.write_json(path, self.record, retry=False)


def acquire(folder: Path, *, known_dead: AttemptRecord | None = None) -> Lease | None:
    """Lease the run in `folder`. Returns None if another process may be training it.

    known_dead: the record of an attempt that `wait_for_stalled` found to be over.
    """
    before = latest(folder)
    if before and before != known_dead and may_be_alive(before):
        return None
    number = (before["attempt"] if before else 0) + 1
    record = {
        "attempt": number,
        "host": socket.gethostname(),
        "node": client.node_name(),
        "process": processes.identity(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "slurm_restart_count": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        "slurm_job": client.this_job(),
        "slurm_cluster": os.environ.get("SLURM_CLUSTER_NAME"),
        "user": os.getuid(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "heartbeat": 0,
    }
    if not files.create_json(_file(folder, number), record):
        return None
    return Lease(folder, number, record)


def attempt_numbers(folder: Path | str) -> list[int]:
    """The numbers of all attempts at the run in `folder`, in ascending order."""
    names = files.names_in(f"{folder}/{paths.ATTEMPTS}")
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def latest(folder: Path) -> AttemptRecord | None:
    """The record of the newest attempt at a run. Returns None if there was none."""
    newest = max(attempt_numbers(folder), default=0)
    if not newest:
        return None
    return files.read_json(_file(folder, newest)) or {"attempt": newest}


def may_be_alive(record: AttemptRecord) -> bool:
    """Whether the process of an attempt may still be at work. Unknown counts as alive."""
    if "ended" in record:
        return False
    running = processes.is_running(record.get("process") or {})
    if running is not None:
        return running
    job, restarts = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_RESTART_COUNT", "0")
    earlier_start_of_our_job = (
        job is not None
        and record.get("slurm_job_id") == job
        and record.get("slurm_restart_count", 0) < int(restarts)
    )
    return not earlier_start_of_our_job and not _is_job_over(record)


def wait_for_stalled(
    folders: Iterable[Path], stop: Callable[[], bool]
) -> dict[Path, AttemptRecord]:
    """Wait until it is known which of the newest attempts in `folders` have stalled.

    Returns those whose process is known to be gone, as soon as there are any; otherwise, after
    MISSED_HEARTBEATS intervals, those whose heartbeat has not moved. Empty once stop() is true.
    Time in which the file system stands still does not count: nobody can write a heartbeat then.
    """
    seen = {folder: record for folder in folders if (record := latest(folder))}
    give_up = time.monotonic() + MISSED_HEARTBEATS * HEARTBEAT_SECONDS
    while seen and time.monotonic() < give_up:
        if stop():
            return {}
        if over := {folder: r for folder, r in seen.items() if not may_be_alive(r)}:
            return over
        time.sleep(HEARTBEAT_SECONDS / 30)
        for folder, record in list(seen.items()):
            began = time.monotonic()
            if latest(folder) != record:
                del seen[folder]
            took = time.monotonic() - began
            give_up += took if took > HEARTBEAT_SECONDS else 0
    return seen


def count_failed_attempts(folder: Path) -> int:
    """How many attempts at the run in `folder` have failed."""
    records = (files.read_json(_file(folder, number)) for number in attempt_numbers(folder))
    return sum(record is not None and record.get("ended") == "failed" for record in records)


def _is_job_over(record: AttemptRecord) -> bool:
    """Whether Slurm says that an attempt's job is gone, or was restarted since.

    Slurm is asked only by the same user on the same cluster: it may hide a job from others.
    """
    job, cluster = record.get("slurm_job"), record.get("slurm_cluster")
    if not job or not cluster or record.get("user") != os.getuid():
        return False
    if cluster != client.this_cluster():
        return False
    since = datetime.fromisoformat(record["started"]).timestamp()
    return job_poller.shared.is_over(job, record["slurm_restart_count"], since)


def _file(folder: Path, number: int) -> Path:
    return folder / paths.ATTEMPTS / f"{number}.json"
