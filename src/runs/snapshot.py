"""A run folder read at one moment: no file is read twice, and no large one is parsed."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from src.common import files, paths
from src.common.result_values import BEST_VAL_ACCURACY, TEST_ACCURACY, finite
from src.runs import leases
from src.runs.damaged_files import name_once
from src.runs.leases import AttemptRecord


class State(StrEnum):
    """The state of a run, derived from its folder."""

    DONE = "done"
    PRUNED = "pruned"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    PENDING = "pending"


@dataclass(frozen=True)
class Attempt:
    """The record of an attempt, and when its file was last written (seconds since the epoch)."""

    record: AttemptRecord
    written: float

    @property
    def seconds(self) -> float:
        """Duration, up to the last write of its file.

        That write is its end, or the last heartbeat if it is alive or was killed. The duration is
        bounded by what its heartbeats took and one interval more: clocks of machines differ, and
        copied files have other times.
        """
        beats = self.record.get("heartbeat", 0) * leases.HEARTBEAT_SECONDS
        if "started" not in self.record:
            return beats
        lasted = self.written - datetime.fromisoformat(self.record["started"]).timestamp()
        return max(beats, min(lasted, beats + leases.HEARTBEAT_SECONDS))


class Snapshot:
    """The state of a run folder, which need not exist, as its files are now.

    Attempts of a finished run and `epoch_seconds` are read when they are first used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = str(path)  # thousands are read at once: a Path for each file is slow
        self.names = frozenset(files.names_in(self._folder))
        self.result = self._numbers(paths.RESULT)
        self.alive = False
        """Whether the newest attempt may be training the run."""
        if self.result is None and self.attempts:
            # the result is written before the attempt is ended: read it again after the attempts
            self.names = frozenset(files.names_in(self._folder))
            self.result = self._numbers(paths.RESULT)
            self.alive = self.result is None and leases.may_be_alive(self.attempts[-1].record)
        self.pruned = self._numbers(paths.PRUNED)

    @cached_property
    def attempts(self) -> tuple[Attempt, ...]:
        """All attempts, the newest last."""
        return tuple(_attempts(self._folder))

    @property
    def tries(self) -> int:
        """Number of attempts."""
        if self.result is None:
            return len(self.attempts)
        return len(leases.attempt_numbers(self._folder))

    @property
    def state(self) -> State:
        """Derived from the files; no file stores it."""
        if self.result is not None:
            return State.DONE
        if self.alive:
            return State.RUNNING
        if self.pruned is not None:
            return State.PRUNED
        if paths.FAILURE in self.names:
            return State.FAILED
        return State.INTERRUPTED if self.attempts else State.PENDING

    @property
    def validation_accuracy(self) -> float | None:
        """The best validation accuracy. None if the run is not done, or its result is damaged."""
        return finite((self.result or {}).get(BEST_VAL_ACCURACY))

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to continue from."""
        return paths.RESUME in self.names or paths.RESUME_BEFORE in self.names

    @cached_property
    def epoch_seconds(self) -> list[float]:
        """Seconds of each epoch in the history, by a search of its text: parsing takes longer."""
        try:
            text = files.read_bytes(self.path / paths.HISTORY)
        except FileNotFoundError:
            return []
        seconds = re.findall(rb'"seconds": (\d+(?:\.\d+)?(?:e[+-]?\d+)?)\}', text)
        if len(seconds) != len(text.splitlines()):
            try:
                history_rows(text)
            except ValueError:
                name_once(self.path / paths.HISTORY, "only epochs that can be read are counted")
        return [float(each) for each in seconds]

    def _numbers(self, name: str) -> dict[str, Any] | None:
        return numbers(f"{self._folder}/{name}") if name in self.names else None


def numbers(path: Path | str) -> dict[str, Any] | None:
    """The metrics in a result.json or pruned.json. Returns None if it is missing or damaged."""
    for _ in range(2):  # it may have been published between reading it and looking for it
        result = files.read_json(path)
        accuracy = (result or {}).get(TEST_ACCURACY, "missing")
        if isinstance(accuracy, int | float | None):
            return result
        if not os.path.exists(path):
            return None
    name_once(path, "the run does not count as finished")
    return None


def history_rows(text: bytes) -> list[dict[str, Any]]:
    """The rows of a history.jsonl. Raises ValueError if it is damaged."""
    rows = [json.loads(line) for line in text.decode().splitlines()]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
            raise ValueError(f"line {number} is no epoch")
    return rows


def _attempts(folder: str) -> Iterator[Attempt]:
    for number in leases.attempt_numbers(folder):
        path = f"{folder}/{paths.ATTEMPTS}/{number}.json"
        written = os.stat(path).st_mtime
        yield Attempt({**(files.read_json(path) or {}), "attempt": number}, written)
