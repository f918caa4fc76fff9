"""Every write, fsync, rename, link, unlink and mkdir below a folder, and what goes wrong there.

A point is named by what is done, to which file, and for the how manieth time: "replace
resume.pt #2". The same work meets the same points, however its threads take turns.
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

Happen = Callable[[str], None]
"""Called with a point before or after it."""


def nothing(point: str) -> None:
    """What mostly happens."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong at one point: the process is killed, or `error` is raised before it."""

    point: str
    after: bool = False
    error: int | None = None


class Points:
    """Watches the file operations of this process below `folder`."""

    def __init__(self, folder: Path, *, before: Happen = nothing, after: Happen = nothing) -> None:
        self.folder = f"{folder.resolve()}/"
        self.before, self.after = before, after
        self._seen: Counter[str] = Counter()

    def install(self) -> None:
        """For the rest of this process's life."""
        for name in ("replace", "link", "unlink", "remove", "mkdir"):
            setattr(os, name, self._watched(name, getattr(os, name)))
        os.fsync = self._watched_fsync(os.fsync)  # type: ignore[assignment]
        files._temporary = self._watched_files(files._temporary)  # type: ignore[assignment]

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
    """A file of which each write(2) is told: what a killed process leaves ends with one of them."""

    def __init__(self, descriptor: int, told: Callable[[Callable[[], Any]], Any]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._told = told

    def write(self, data: Any) -> int:
        count: int = self._told(lambda: super(_WatchedFile, self).write(data))
        return count


def recorded(folder: Path, into: Path) -> Points:
    """Points that note their names in the file `into`, one a line."""
    out = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(point: str) -> None:
        os.write(out, f"{point}\n".encode())

    return Points(folder, before=note)


def failing(folder: Path, fault: Fault, reached: Path) -> Points:
    """Points of which one fails; `reached` exists then."""

    def happen(point: str) -> None:
        if point != fault.point:
            return
        os.close(os.open(reached, os.O_WRONLY | os.O_CREAT))
        if fault.error:
            raise OSError(fault.error, os.strerror(fault.error))
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    return Points(folder, after=happen) if fault.after else Points(folder, before=happen)
