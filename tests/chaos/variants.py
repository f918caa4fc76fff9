"""Deliberately broken variants of ours, each of which the monkeys must catch.

Each breaks what makes a promise hold, as a plausible implementation would have it.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import IO
from unittest import mock

import torch

from src.cli import entry_point
from src.common import files, processes
from src.common.errors import ExitStatus
from src.common.signals import StopSignal
from src.runs import leases
from src.training import checkpoint
from tests.chaos import monkeys
from tests.chaos.world import Broken

Variant = Callable[[], AbstractContextManager[object]]


def no_checksum() -> AbstractContextManager[object]:
    """A checkpoint is whole if torch.load can make something of it."""

    def read(path: Path, device: torch.device) -> checkpoint.State | None:
        try:
            state: checkpoint.State = torch.load(path, map_location=device, weights_only=True)
        except Exception:  # noqa: BLE001  as a plausible implementation has it
            return None
        return state

    return mock.patch.object(checkpoint, "read", read)


def no_atomic_rename() -> AbstractContextManager[object]:
    """Files are written in their place."""

    @contextmanager
    def in_place(path: Path) -> Iterator[IO[bytes]]:
        with path.open("wb") as file:
            yield file

    def write(
        path: Path,
        save: Callable[[IO[bytes]], object],
        keep_before: Path | None = None,
        before_rename: Callable[[], object] | None = None,
    ) -> None:
        with files._temporary(path) as file:
            save(file)

    def create(path: Path, save: Callable[[IO[bytes]], object]) -> bool:
        if path.exists():
            return False
        write(path, save)
        return True

    stack = ExitStack()
    for name, broken in (("_temporary", in_place), ("write", write), ("create", create)):
        stack.enter_context(mock.patch.object(files, name, broken))
    return stack


def unlink_style_claims() -> AbstractContextManager[object]:
    """A stale claim is removed and made anew with O_EXCL."""

    def acquire(folder: Path, *, known_dead: object = None) -> leases.Lease | None:
        before = leases.latest(folder)
        if before and leases.may_be_alive(before):
            return None
        path = folder / "attempts" / "1.json"
        path.unlink(missing_ok=True)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return None
        record = {"attempt": 1, "process": processes.identity(), "heartbeat": 0}
        os.write(descriptor, files.to_json(record).encode())
        os.close(descriptor)
        return leases.Lease(folder, 1, record)

    return mock.patch.object(leases, "acquire", acquire)


def zero_on_sigterm() -> AbstractContextManager[object]:
    """A worker that is asked to stop saves everything and ends as if all was done."""
    statuses = {status.name: status for status in ExitStatus} | {"STOPPED": ExitStatus.DONE}
    return mock.patch.object(entry_point, "ExitStatus", SimpleNamespace(**statuses))


def work_in_the_handler() -> AbstractContextManager[object]:
    """The signal handler itself tells what it does."""

    def note(self: StopSignal, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for _ in range(200):
            print(f"signal {number}: stopping at the next step", file=sys.stderr)
            sys.stderr.flush()

    return mock.patch.object(StopSignal, "_record", note)


def is_caught(variant: Variant, monkey: Callable[[], object]) -> bool:
    """Whether a monkey finds out that something is broken."""
    with variant():
        try:
            monkey()
        except Broken:
            return True
    return False


def catches(folder: Path) -> dict[Variant, Callable[[], object]]:
    """Who is to catch which variant, with what little effort is enough."""

    def place(name: str) -> Path:
        (folder / name).mkdir(parents=True, exist_ok=True)
        return folder / name

    def small(point: str) -> bool:
        return "resume" not in point and "npz" not in point and ".pt" not in point

    return {
        no_checksum: lambda: monkeys.damage(place("no-checksum"), cuts=0, flips=40, resumed=0),
        no_atomic_rename: lambda: monkeys.every_failpoint(place("no-rename"), of=small),
        unlink_style_claims: lambda: monkeys.claims(place("unlink"), rounds=300),
        zero_on_sigterm: lambda: monkeys.signals(place("zero"), bursts=6),
        work_in_the_handler: lambda: monkeys.signals(place("handler"), bursts=6),
    }
