"""Temporary files: how they are named, and which of them nobody will finish."""

import hashlib
import io
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from src.common import processes
from src.common.paths import TEMPORARY_PREFIX

_DAY_SECONDS = 86_400
_UMASK = os.umask(0)  # the umask can only be read by setting it
os.umask(_UMASK)


def apply_umask(mode: int) -> int:
    """A file mode without the bits of the umask."""
    return mode & ~_UMASK


def remove_abandoned_files(*folders: Path, old_seconds: float = _DAY_SECONDS) -> None:
    """Remove what `abandoned_files` finds in `folders`."""
    for path in abandoned_files(*folders, old_seconds=old_seconds):
        path.unlink(missing_ok=True)


def abandoned_files(*folders: Path, old_seconds: float = _DAY_SECONDS) -> Iterator[Path]:
    """Temporary files of killed writers in `folders`.

    Those of processes of this machine that are gone, and those of other machines once they are
    `old_seconds` old: nobody can see from here whether their writers are alive.
    """
    for folder in folders:
        for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
            with suppress(FileNotFoundError):
                if _is_abandoned(path, old_seconds):
                    yield path


def _is_abandoned(path: Path, old_seconds: float) -> bool:
    machine, _, pid = path.name.removeprefix(TEMPORARY_PREFIX).partition("-")
    pid = pid.partition("-")[0]
    if machine == _machine_hash() and pid.isdecimal():
        return not processes.exists(int(pid))
    return time.time() - _last_change(path) > old_seconds


def _last_change(path: Path) -> float:
    """When a file was last changed, in seconds since the epoch: st_ctime.

    In st_mtime an NFS server keeps a number of the client's (the verifier of an exclusive creation,
    RFC 8881, 18.16.3) until the client has set the times: a file of that moment looks years old.
    """
    return path.stat().st_ctime


@cache
def _machine_hash() -> str:
    """A short hash that identifies this machine."""
    return hashlib.sha256(processes.this_machine().encode()).hexdigest()[:8]


@contextmanager
def temporary_file(path: Path) -> Iterator[Any]:
    """An open temporary file in the folder of `path`, removed at the end if it is still there."""
    prefix = f"{TEMPORARY_PREFIX}{_machine_hash()}-{os.getpid()}-"  # as `abandoned_files` reads it
    with tempfile.NamedTemporaryFile(prefix=prefix, dir=path.parent, delete=False) as file:
        try:
            os.fchmod(file.fileno(), apply_umask(0o666))  # NamedTemporaryFile creates it with 0600
            yield file
        finally:
            try:
                file.close()  # or an NFS client only renames what is unlinked, and may leave it
            finally:
                Path(file.name).unlink(missing_ok=True)


class ByteCounter(io.RawIOBase):
    """A file that only counts the bytes written to it."""

    name = os.devnull  # a checkpoint is read again for its checksum
    size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        self.size += count
        return count


class ErrorKeepingFile:
    """A file that keeps the error of a failed write: torch.save turns it into RuntimeError."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)
