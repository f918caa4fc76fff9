"""Failpoints at every write, fsync, rename, link, unlink and mkdir below a folder.

A point is named after operation, file and count, such as "replace resume.pt #2". The same work
reaches the same points, whatever the order of its threads.
"""

import io
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.common import files
from src.common.paths import TEMPORARY_PREFIX

Hook = Callable[[str], None]
"""Called with the name of a point, before or after its operation."""


def do_nothing(point: str) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Fault:
    """Fault at one point: the process is killed, or OSError(`error`) is raised before it."""

    point: str
    after: bool = False
    error: int | None = None


class Points:
    """Hooks on the file operations of this process below `folder`."""

    def __init__(
        self, folder: Path, *, before: Hook = do_nothing, after: Hook = do_nothing
    ) -> None:
        self.folder = f"{folder.resolve()}/"
        self.before, self.after = before, after
        self._seen: Counter[str] = Counter()

    def install(self) -> None:
        """Patch `os` and `files` for the rest of the process."""
        for name in ("replace", "link", "unlink", "remove", "mkdir"):
            setattr(os, name, self._watched(name, getattr(os, name)))
        os.fsync = self._watched_fsync(os.fsync)  # type: ignore[assignment]
        files.temporary_file = self._watched_files(files.temporary_file)  # type: ignore[assignment]

    def _watched(self, name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            where = arguments[1] if name in ("replace", "link") else arguments[0]
            return self._do(name, os.fspath(where), lambda: do(*arguments, **named))

        return watched

    def _watched_fsync(self, fsync: Callable[[int], None]) -> Callable[[int], None]:
        return lambda fd: self._do("fsync", os.readlink(f"/proc/self/fd/{fd}"), lambda: fsync(fd))

    def _watched_files(self, temporary: Callable[[Path], Any]) -> Callable[[Path], Any]:
        @contextmanager
        def watched(path: Path) -> Iterator[Any]:
            with temporary(path) as file:
                raw = _WatchedFile(file.fileno(), lambda act: self._do("write", str(path), act))
                raw.name = file.name
                with io.BufferedWriter(raw, os.fstat(file.fileno()).st_blksize) as buffered:
                    yield buffered

        return watched

    def _do(self, name: str, path: str, act: Callable[[], Any]) -> Any:
        if not os.path.abspath(path).startswith(self.folder):
            return act()
        relative = os.path.abspath(path).removeprefix(self.folder)
        folder, _, last = relative.rpartition("/")
        if last.startswith(TEMPORARY_PREFIX):
            relative = f"{folder}/{TEMPORARY_PREFIX}*"
        event = f"{name} {relative}"
        self._seen[event] += 1
        point = f"{event} #{self._seen[event]}"
        self.before(point)
        try:
            return act()
        finally:
            self.after(point)


class _WatchedFile(io.FileIO):
    """A file that reports each write(2), since a killed process may stop after any of them."""

    def __init__(self, descriptor: int, report: Callable[[Callable[[], Any]], Any]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._report = report

    def write(self, data: Any) -> int:
        count: int = self._report(lambda: super(_WatchedFile, self).write(data))
        return count


def recorded(folder: Path, into: Path) -> Points:
    """Return points that append their names to the file `into`."""
    out = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(point: str) -> None:
        os.write(out, f"{point}\n".encode())

    return Points(folder, before=note)


def failing(folder: Path, fault: Fault, reached: Path) -> Points:
    """Return points of which one fails, after creating the file `reached`."""

    def fail_at_point(point: str) -> None:
        if point != fault.point:
            return
        os.close(os.open(reached, os.O_WRONLY | os.O_CREAT))
        if fault.error:
            raise OSError(fault.error, os.strerror(fault.error))
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    return (
        Points(folder, after=fail_at_point) if fault.after else Points(folder, before=fail_at_point)
    )
