"""Deliberately broken variants of the code, which the disturbances must detect.

Each replaces a mechanism behind a guarantee by a plausible but wrong implementation.
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
from tests.chaos import disturbances
from tests.chaos.harness import GuaranteeViolated

Variant = Callable[[], AbstractContextManager[object]]


def no_checksum() -> AbstractContextManager[object]:
    """Accept every checkpoint that torch.load can read."""

    def read(path: Path, device: torch.device) -> checkpoint.CheckpointState | None:
        try:
            state: checkpoint.CheckpointState = torch.load(
                path, map_location=device, weights_only=True
            )
        except Exception:  # noqa: BLE001  as a naive implementation does
            return None
        return state

    return mock.patch.object(checkpoint, "read", read)


def no_atomic_rename() -> AbstractContextManager[object]:
    """Write files in place instead of renaming a temporary file."""

    @contextmanager
    def open_in_place(path: Path) -> Iterator[IO[bytes]]:
        with path.open("wb") as file:
            yield file

    def write(
        path: Path,
        save: Callable[[IO[bytes]], object],
        keep_before: Path | None = None,
        before_rename: Callable[[], object] | None = None,
        *,
        retry: bool = True,
    ) -> None:
        with files.temporary_file(path) as file:
            save(file)

    def create(path: Path, save: Callable[[IO[bytes]], object]) -> bool:
        if path.exists():
            return False
        write(path, save)
        return True

    stack = ExitStack()
    for name, broken in (("temporary_file", open_in_place), ("write", write), ("create", create)):
        stack.enter_context(mock.patch.object(files, name, broken))
    return stack


def unlink_stale_lease() -> AbstractContextManager[object]:
    """Remove a stale lease and create it again with O_EXCL."""

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
    """Return exit status 0 from a worker that was stopped by a signal."""
    statuses = {status.name: status for status in ExitStatus} | {"STOPPED": ExitStatus.DONE}
    return mock.patch.object(entry_point, "ExitStatus", SimpleNamespace(**statuses))


def work_in_the_handler() -> AbstractContextManager[object]:
    """Print and flush within the signal handler."""

    def note(self: StopSignal, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for _ in range(200):
            print(f"signal {number}: stopping at the next step", file=sys.stderr)
            sys.stderr.flush()

    return mock.patch.object(StopSignal, "_record", note)


def is_detected(variant: Variant, disturbance: Callable[[], object]) -> bool:
    """Return whether a disturbance detects that a guarantee is violated."""
    with variant():
        try:
            disturbance()
        except GuaranteeViolated:
            return True
    return False


def detectors(folder: Path) -> dict[Variant, Callable[[], object]]:
    """Return for each variant a disturbance that detects it with few repetitions."""

    def subfolder(name: str) -> Path:
        (folder / name).mkdir(parents=True, exist_ok=True)
        return folder / name

    def without_large_files(point: str) -> bool:
        return "resume" not in point and "npz" not in point and ".pt" not in point

    return {
        no_checksum: lambda: disturbances.damage(
            subfolder("no-checksum"), cuts=0, flips=40, resumed=0
        ),
        no_atomic_rename: lambda: disturbances.every_failpoint(
            subfolder("no-rename"), of=without_large_files
        ),
        unlink_stale_lease: lambda: disturbances.claims(subfolder("unlink"), rounds=300),
        zero_on_sigterm: lambda: disturbances.signals(subfolder("zero"), bursts=6),
        work_in_the_handler: lambda: disturbances.signals(subfolder("handler"), bursts=6),
    }
