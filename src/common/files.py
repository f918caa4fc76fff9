"""Write files that other processes read: whole or not at all.

The order matters: write a temporary file in the same folder, fsync it, rename (or link) it, fsync
the folder. Renamed before its fsync, a file may be empty after a power cut; without the folder's
fsync the rename itself may be lost; and only within one folder is a rename atomic everywhere.

On NFS three answers of system calls are not what they seem:

- A request whose reply is lost is sent again. A server that has restarted since does not remember
  the first one: link(2) says EEXIST, or rename(2) ENOENT, although it has succeeded.
- A file that another machine replaces after open(2) is gone from the server: read(2) says ESTALE.
- A client may answer from its cache, for a minute, that a file of another machine does not exist
  (ENOENT). To open the folder makes it ask the server: `revalidate`, `names_in`.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar

from src.common import processes
from src.common.errors import DiskFull, is_disk_full
from src.common.paths import TEMPORARY_PREFIX

T = TypeVar("T")

_DAY_SECONDS = 86_400
FILE_SYSTEM_ERRORS = (errno.EIO, errno.ESTALE, errno.EREMOTEIO)
"""Errors of a file system that does not work at the moment."""


class _Patience:
    """Calls operations again with growing pauses while the file system fails.

    It may fail for a while when a server restarts, or on a mount with a time limit (soft).
    """

    def __init__(self, *pauses: float) -> None:
        self.pauses = pauses  # seconds
        self._waited_in_vain = False

    def __call__(self, operation: Callable[[], T]) -> T:
        """The result of `operation`.

        Raises OSError once the pauses are over; from then on at once, until an operation succeeds:
        a process with 48 runs to save, or thousands of folders to read, must not wait for each.
        """
        pauses = iter(() if self._waited_in_vain else self.pauses)
        while True:
            try:
                result = operation()
            except OSError as error:
                if error.errno not in FILE_SYSTEM_ERRORS:
                    raise
                pause = next(pauses, None)
                if pause is None:
                    self._waited_in_vain = True
                    raise
                time.sleep(pause)
            else:
                self._waited_in_vain = False
                return result


# Each step of writing a file is repeated by itself: after a link(2) that has succeeded, another
# temporary file could never be linked.
_waiting = _Patience(1, 2, 4, 8, 16, 29, 60, 60, 60, 60)
_reading = _Patience(0.1, 0.1, 0.2, 0.4, 0.8, 1.4)
_UMASK = os.umask(0)  # the umask can only be read by setting it
os.umask(_UMASK)


def allowed(mode: int) -> int:
    """A file mode without the bits of the umask."""
    return mode & ~_UMASK


def remove_leftovers(*folders: Path, old_seconds: float = _DAY_SECONDS) -> None:
    """Remove what `leftovers` finds in `folders`."""
    for path in leftovers(*folders, old_seconds=old_seconds):
        path.unlink(missing_ok=True)


def leftovers(*folders: Path, old_seconds: float = _DAY_SECONDS) -> Iterator[Path]:
    """Temporary files of killed writers in `folders`.

    Those of processes of this machine that are gone, and those of other machines once they are
    `old_seconds` old: nobody can see from here whether their writers are alive.
    """
    for folder in folders:
        for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
            with suppress(FileNotFoundError):
                if _is_left(path, old_seconds):
                    yield path


def _is_left(path: Path, old_seconds: float) -> bool:
    machine, _, pid = path.name.removeprefix(TEMPORARY_PREFIX).partition("-")
    pid = pid.partition("-")[0]
    if machine == _machine() and pid.isdecimal():
        return not processes.exists(int(pid))
    return time.time() - path.stat().st_mtime > old_seconds


@cache
def _machine() -> str:
    """A short hash that identifies this machine."""
    return hashlib.sha256(processes.this_machine().encode()).hexdigest()[:8]


class _Counted(io.RawIOBase):
    """A file that only counts the bytes written to it."""

    name = os.devnull  # a checkpoint is read again for its checksum
    size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        self.size += count
        return count


@contextmanager
def _reporting_full_disk(path: Path, save: Callable[[IO[bytes]], object]) -> Iterator[None]:
    """Turn a full disk into DiskFull, with the bytes that `save` needs and those that are free."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        counted = _Counted()
        save(counted)  # type: ignore[arg-type]
        free = shutil.disk_usage(path.parent).free
        raise DiskFull(error.errno or 0, str(path), counted.size, free) from error


class _Watched:
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


@contextmanager
def _temporary(path: Path) -> Iterator[Any]:
    """An open temporary file in the folder of `path`, removed at the end if it is still there."""
    prefix = f"{TEMPORARY_PREFIX}{_machine()}-{os.getpid()}-"  # as remove_leftovers reads it
    with tempfile.NamedTemporaryFile(prefix=prefix, dir=path.parent, delete=False) as file:
        try:
            os.fchmod(file.fileno(), allowed(0o666))  # NamedTemporaryFile creates it with 0600
            yield file
        finally:
            try:
                file.close()  # or an NFS client only renames what is unlinked, and may leave it
            finally:
                Path(file.name).unlink(missing_ok=True)


def write(
    path: Path,
    save: Callable[[IO[bytes]], object],
    keep_before: Path | None = None,
    before_rename: Callable[[], object] = lambda: None,
    *,
    patient: bool = True,
) -> None:
    """Write `path` with `save(file)`: readers see the old file or the new one, never a part.

    keep_before: new name of the existing file, if there is one. before_rename: called when
    everything is on the disk; if it raises, nothing is replaced. patient: wait if the file system
    fails, as `_waiting` says; `save` and `before_rename` are then called again.
    """
    waiting = _waiting if patient else _once
    with _reporting_full_disk(path, save), ExitStack() as stack:
        file = waiting(lambda: _saved(path, save, stack))

        def rename() -> None:
            before_rename()
            _replace(file, path, keep_before)

        waiting(rename)
    waiting(lambda: sync_folder(path.parent))


def write_once(path: Path, data: bytes) -> bool:
    """Create `path` in one piece with link(2). Returns False, with nothing done, if it exists."""
    return create(path, lambda file: file.write(data))


def create(path: Path, save: Callable[[IO[bytes]], object]) -> bool:
    """Like `write_once`, with the content that `save(file)` writes."""
    with _reporting_full_disk(path, save), ExitStack() as stack:
        file = _waiting(lambda: _saved(path, save, stack))
        if not _waiting(lambda: _link(file, path)):
            return False
    _waiting(lambda: sync_folder(path.parent))
    return True


def _once(operation: Callable[[], T]) -> T:
    return operation()


def _saved(path: Path, save: Callable[[IO[bytes]], object], stack: ExitStack) -> IO[bytes]:
    """A temporary file beside `path` with all that `save` writes, synced; `stack` removes it."""
    with ExitStack() as own:
        file: IO[bytes] = own.enter_context(_temporary(path))
        watched = _Watched(file)
        try:
            save(watched)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise watched.error or error from error
        _sync(file)
        stack.push(own.pop_all())
    return file


def _replace(file: IO[bytes], path: Path, keep_before: Path | None) -> None:
    """Rename a temporary file to `path`. May be called again after it has failed."""
    if keep_before and path.exists() and not _is_at(file, path):
        with suppress(FileNotFoundError):  # on NFS: it has been renamed, see above
            os.replace(path, keep_before)
    try:
        os.replace(file.name, path)
    except FileNotFoundError:
        if not _is_at(file, path):
            raise


def _link(file: IO[bytes], path: Path) -> bool:
    """Link a temporary file to `path`. Returns False if another file is there."""
    try:
        os.link(file.name, path)
    except FileExistsError:
        return _is_at(file, path)
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether `path` is the open `file`: its link(2) or rename(2) has succeeded, whatever it said.

    open(2) advises to look at the link count of `file`; but an NFS client answers stat(2) from its
    cache for some seconds. To open `path`, it has to ask the server.
    """
    try:
        with open(path, "rb") as there:
            found, ours = os.fstat(there.fileno()), os.fstat(file.fileno())
    except FileNotFoundError:
        return False
    # inode numbers are used again: with the times, nobody else's file is taken for ours
    return os.path.samestat(found, ours) and found.st_mtime_ns == ours.st_mtime_ns


def write_text(
    path: Path,
    text: str,
    before_rename: Callable[[], object] = lambda: None,
    *,
    patient: bool = True,
) -> None:
    """Write `text` as UTF-8, atomically. The options are those of `write`."""
    write(path, lambda file: file.write(text.encode()), None, before_rename, patient=patient)


def write_json(path: Path, value: Mapping[str, Any], *, patient: bool = True) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, to_json(value), patient=patient)


def to_json(value: Mapping[str, Any]) -> str:
    """Format `value` as JSON, as in all files of the project."""
    return json.dumps(value, indent=2) + "\n"


def retry_read(read: Callable[[], T]) -> T:
    """The result of `read`, which opens a file by its path; called again if the file system fails.

    So it does for a moment where the file was replaced or its server restarts (ESTALE, EIO). Raises
    OSError after three seconds.
    """
    return _reading(read)


def read_bytes(path: Path | str) -> bytes:
    """The content of a file that other processes may replace meanwhile. Raises OSError."""

    def read() -> bytes:
        # without a buffer: twice as fast for thousands of small files
        with open(path, "rb", buffering=0) as file:
            return file.read()

    return _reading(read)


def read_json(path: Path | str) -> dict[str, Any] | None:
    """The object in a JSON file. Returns None if it is missing, damaged or not an object."""
    try:
        value = json.loads(read_bytes(path).decode())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def names_in(folder: Path | str) -> list[str]:
    """The names in a folder; none if it does not exist. Raises OSError if it cannot be read.

    `Path.glob` takes a folder that cannot be read for an empty one.
    """
    try:
        return _reading(lambda: os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def revalidate(folder: Path) -> None:
    """Make an NFS client ask the server which files there are in `folder`, which may not exist."""
    with suppress(FileNotFoundError, NotADirectoryError):
        os.close(os.open(folder, os.O_RDONLY))


def sync_folder(folder: Path) -> None:
    """Make renames and links in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
