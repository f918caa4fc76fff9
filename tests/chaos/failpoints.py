"""Every write, fsync, rename, link, unlink and mkdir below a folder, and what goes wrong there.

A point is named by what is done, to which file, and for the how manieth time: "replace
resume.pt #2". The same work meets the same points, however its threads take turns.
"""

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from src import files
from src.paths import TEMPORARY_PREFIX

Happen = Callable[[str, "IO[bytes] | None"], None]
"""Called with a point before or after it; the file, if it is a write."""


def nothing(point: str, file: IO[bytes] | None) -> None:
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
                write = file.write
                file.write = lambda part: self._do("write", str(path), lambda: write(part), file)
                yield file

        return watched

    def _do(
        self, name: str, path: str, act: Callable[[], Any], file: IO[bytes] | None = None
    ) -> Any:
        if not os.path.abspath(path).startswith(self.folder):
            return act()
        relative = os.path.abspath(path).removeprefix(self.folder)
        folder, _, last = relative.rpartition("/")
        if last.startswith(TEMPORARY_PREFIX):
            relative = f"{folder}/{TEMPORARY_PREFIX}*"
        event = f"{name} {relative}"
        self._seen[event] += 1
        point = f"{event} #{self._seen[event]}"
        self.before(point, file)
        try:
            return act()
        finally:
            self.after(point, file)


def recorded(folder: Path, into: Path) -> Points:
    """Points that note their names in the file `into`, one a line."""
    out = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(point: str, file: IO[bytes] | None) -> None:
        os.write(out, f"{point}\n".encode())

    return Points(folder, before=note)


def failing(folder: Path, fault: Fault, reached: Path) -> Points:
    """Points of which one fails; `reached` exists then."""

    def happen(point: str, file: IO[bytes] | None) -> None:
        if point != fault.point:
            return
        os.close(os.open(reached, os.O_WRONLY | os.O_CREAT))
        if fault.error:
            raise OSError(fault.error, os.strerror(fault.error))
        if fault.after and file:
            file.flush()  # as much as was written is in the file now
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    return Points(folder, after=happen) if fault.after else Points(folder, before=happen)
