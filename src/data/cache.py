"""A decoded data set in one .npy file of the user's cache folder, mapped instead of read.

Processes on a node share its pages. Contents alone are trusted: the file's name is a digest of
the files that it was made from, and it ends with a digest of itself. It is linked into
place once and never replaced, since a process on another node may have it mapped.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import numpy.typing as npt

from src.common import files
from src.common.errors import UserError
from src.common.paths import cache_dir, cache_file
from src.common.temporary_files import remove_abandoned_files
from src.data.dataset import bytes_per_pixel

T = TypeVar("T")

KEPT = 6
"""Files kept, the most recently used: those of as many different data sets, or copies of one."""

RecordArray = npt.NDArray[np.void]
"""A 0-d array of a layout: all of a data set in one block."""


def layout(train: int, test: int, *, size: int = 32, channels: int = 3) -> "np.dtype[np.void]":
    """What a record of so many images, each (size, size, channels), is made of."""
    pixel = (size, size, bytes_per_pixel(channels))
    return np.dtype(
        [
            ("train_pixels", "u1", (train, *pixel)),
            ("train_labels", "<i8", (train,)),
            ("test_pixels", "u1", (test, *pixel)),
            ("test_labels", "<i8", (test,)),
            ("digest", "u1", (32,)),
        ]
    )


_THREADS = 4
_PIECE = 8 << 20  # bytes that a thread digests at a time
_ABANDONED_SECONDS = 3600


def of_files(
    paths: Sequence[Path],
    dtypes: Sequence["np.dtype[np.void]"],
    decode: Callable[[], RecordArray],
    meaning: bytes = b"",
) -> RecordArray:
    """Return the record decoded from `paths`: read from the cache, or decoded and written to it.

    dtypes: those that it may have. meaning: what the record depends on besides the files.
    Raises UserError if a file cannot be read.
    """
    try:
        digests = [*_digests_of(paths), *([_sha256(meaning)] if meaning else [])]
        for dtype in dtypes:
            kept = read(key_of(digests, dtype), dtype)
            if kept is not None:
                return kept
        record = decode()
        changed_meanwhile = _digests_of(paths) != digests[: len(paths)]
        if changed_meanwhile:
            return record
        key = key_of(digests, record.dtype)
        write(key, record)
        kept = read(key, record.dtype)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    return record if kept is None else kept


def empty(dtype: "np.dtype[np.void]") -> RecordArray:
    """A record to fill."""
    return np.zeros((), dtype)


def _digests_of(paths: Iterable[Path]) -> list[bytes]:
    """The digest of all bytes of each file. Raises OSError."""
    return _in_threads(_file_digest, paths)


def key_of(digests: Iterable[bytes], dtype: "np.dtype[np.void]") -> str:
    """What the record of a layout, made from files with these digests, is kept under."""
    return _combined([_header(dtype), *digests]).hex()[:32]


def read(key: str, dtype: "np.dtype[np.void]") -> RecordArray | None:
    """The record of a layout kept under `key`, mapped copy-on-write; None where there is none.

    A damaged one is removed.
    """
    try:
        path = cache_file(cache_dir(), key)
        record = _mapped(path, dtype)
        if record is None:
            path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # it is in use
    except (OSError, ValueError):
        return None
    return record


def write(key: str, record: RecordArray) -> None:
    """Keep `record` under `key`, where the cache folder can be written and has room for it."""
    record["digest"] = np.frombuffer(_digest(record), np.uint8)

    def save(file: IO[bytes]) -> None:
        file.write(_header(record.dtype))
        file.write(_bytes(record))

    with suppress(OSError):
        folder = cache_dir()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.create(cache_file(folder, key), save)
        _prune(folder)


def _mapped(path: Path, dtype: "np.dtype[np.void]") -> RecordArray | None:
    """The record in a file. Returns None if a byte of it is not what was written."""
    header = _header(dtype)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != len(header) + dtype.itemsize:
            return None
        if file.read(len(header)) != header:
            return None
        record = np.asarray(np.memmap(file, dtype, "c", offset=len(header), shape=()))
    return record if record["digest"].tobytes() == _digest(record) else None


def _header(dtype: "np.dtype[np.void]") -> bytes:
    """What a .npy file of a record begins with."""
    header = io.BytesIO()
    description = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (),
    }
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def _bytes(record: RecordArray) -> memoryview:
    return record.reshape(1).view(np.uint8).data


def _digest(record: RecordArray) -> bytes:
    """SHA-256 of the SHA-256s of a record's pieces, all but the digest in it."""
    end = record.dtype.itemsize - record.dtype["digest"].itemsize
    pieces = (_bytes(record)[i : min(i + _PIECE, end)] for i in range(0, end, _PIECE))
    return _combined(_in_threads(_sha256, pieces))


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _sha256(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def _combined(digests: Iterable[bytes]) -> bytes:
    return _sha256(b"".join(digests))


def _in_threads(digest: Callable[[T], bytes], parts: Iterable[T]) -> list[bytes]:
    """The digest of each part; hashing does not hold the interpreter's lock."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(digest, parts))


def _prune(folder: Path) -> None:
    """Remove the least recently used files, and what writers that were killed have left."""

    def used(path: Path) -> float:
        return path.stat().st_mtime

    for path in sorted(folder.glob(cache_file(folder, "*").name), key=used, reverse=True)[KEPT:]:
        path.unlink(missing_ok=True)
    remove_abandoned_files(folder, old_seconds=_ABANDONED_SECONDS)
