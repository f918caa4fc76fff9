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

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from src.common.errors import DiskFull, is_disk_full
from src.common.file_retries import retry_read, retry_write
from src.common.temporary_files import ByteCounter, ErrorKeepingFile, temporary_file

T = TypeVar("T")


@contextmanager
def _reporting_full_disk(path: Path, save: Callable[[IO[bytes]], object]) -> Iterator[None]:
    """Turn a full disk into DiskFull, with the bytes that `save` needs and those that are free."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        counted = ByteCounter()
        save(counted)  # type: ignore[arg-type]
        free = shutil.disk_usage(path.parent).free
        raise DiskFull(error.errno or 0, str(path), counted.size, free) from error


def write(
    path: Path,
    save: Callable[[IO[bytes]], object],
    keep_before: Path | None = None,
    before_rename: Callable[[], object] = lambda: None,
    *,
    retry: bool = True,
) -> None:
    """Write `path` with `save(file)`: readers see the old file or the new one, never a part.

    keep_before: new name of the existing file, if there is one. before_rename: called when
    everything is on the disk; if it raises, nothing is replaced. retry: wait while the file system
    fails, as `retry_write` does; `save` and `before_rename` may then be called again.
    """
    attempt = retry_write if retry else _once
    with _reporting_full_disk(path, save), ExitStack() as stack:
        file = attempt(lambda: _write_beside(path, save, stack))

        def rename() -> None:
            before_rename()
            _replace(file, path, keep_before)

        attempt(rename)
    attempt(lambda: sync_folder(path.parent))


def write_once(path: Path, data: bytes) -> bool:
    """Create `path` in one piece with link(2). Returns False, with nothing done, if it exists."""
    return create(path, lambda file: file.write(data))


def create(path: Path, save: Callable[[IO[bytes]], object]) -> bool:
    """Like `write_once`, with the content that `save(file)` writes."""
    with _reporting_full_disk(path, save), ExitStack() as stack:
        # each step is tried again by itself: after a link(2) that has succeeded, another temporary
        # file could never be linked
        file = retry_write(lambda: _write_beside(path, save, stack))
        if not retry_write(lambda: _link(file, path)):
            return False
    retry_write(lambda: sync_folder(path.parent))
    return True


def _once(operation: Callable[[], T]) -> T:
    return operation()


def _write_beside(path: Path, save: Callable[[IO[bytes]], object], stack: ExitStack) -> IO[bytes]:
    """Return a synced temporary file in the folder of `path`, written by `save`.

    `stack` removes it.
    """
    with ExitStack() as until_written:
        file: IO[bytes] = until_written.enter_context(temporary_file(path))
        keeping = ErrorKeepingFile(file)
        try:
            save(keeping)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise keeping.error or error from error
        sync_file(file)
        stack.push(until_written.pop_all())
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
        with open(path, "rb") as opened:
            at_path, expected = os.fstat(opened.fileno()), os.fstat(file.fileno())
    except FileNotFoundError:
        return False
    # inode numbers are used again: with the times, nobody else's file is taken for ours
    return os.path.samestat(at_path, expected) and at_path.st_mtime_ns == expected.st_mtime_ns


def write_text(
    path: Path,
    text: str,
    before_rename: Callable[[], object] = lambda: None,
    *,
    retry: bool = True,
) -> None:
    """Write `text` as UTF-8, atomically. The options are those of `write`."""
    write(path, lambda file: file.write(text.encode()), None, before_rename, retry=retry)


def write_json(path: Path, value: Mapping[str, Any], *, retry: bool = True) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, to_json(value), retry=retry)


def create_json(path: Path, value: Mapping[str, Any]) -> bool:
    """Create `path` with `value` as indented JSON. Returns False, doing nothing, if it exists."""
    return write_once(path, to_json(value).encode())


def to_json(value: Mapping[str, Any]) -> str:
    """Format `value` as JSON, as in all files of the project."""
    return json.dumps(value, indent=2) + "\n"


def read_bytes(path: Path | str) -> bytes:
    """The content of a file that other processes may replace meanwhile. Raises OSError."""

    def read() -> bytes:
        # without a buffer: twice as fast for thousands of small files
        with open(path, "rb", buffering=0) as file:
            return file.read()

    return retry_read(read)


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
        return retry_read(lambda: os.listdir(folder))
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


def sync_file(file: IO[bytes]) -> None:
    """Write what is buffered, down to the disk."""
    file.flush()
    os.fsync(file.fileno())
