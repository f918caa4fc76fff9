"""Decoded CIFAR-10 in one .npy file of the user's cache folder, mapped instead of read.

Processes on a node share its pages. Contents alone are trusted: the file's name is a digest of
the batch files that it was made from, and it ends with a digest of itself. It is linked into
place once and never replaced, since a process on another node may have it mapped.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import numpy.typing as npt

from src.common import files
from src.common.paths import cache_dir, cache_file

T = TypeVar("T")

KEPT = 3
"""Files kept, the most recently used: those of as many different copies of the data set."""

LAYOUT = np.dtype(
    [
        ("train_pixels", "u1", (50_000, 32, 32, 4)),
        ("train_labels", "<i8", (50_000,)),
        ("test_pixels", "u1", (10_000, 32, 32, 4)),
        ("test_labels", "<i8", (10_000,)),
        ("digest", "u1", (32,)),
    ]
)
Record = npt.NDArray[np.void]
"""A 0-d array of LAYOUT: all of a data set in one block."""

_THREADS = 4
_PIECE = 8 << 20  # bytes that a thread digests at a time
_ABANDONED_SECONDS = 3600


def empty() -> Record:
    """A record to fill."""
    return np.zeros((), LAYOUT)


def key_of(paths: Iterable[Path]) -> str:
    """What the record made from these files is kept under: a digest of all their bytes."""
    return _combined([_header(), *_in_threads(_file_digest, paths)]).hex()[:32]


def read(key: str) -> Record | None:
    """The record kept under `key`, mapped copy-on-write; None where there is none.

    A damaged one is removed.
    """
    try:
        path = cache_file(cache_dir(), key)
        record = _mapped(path)
        if record is None:
            path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # it is in use
    except (OSError, ValueError):
        return None
    return record


def write(key: str, record: Record) -> None:
    """Keep `record` under `key`, where the cache folder can be written and has room for it."""
    record["digest"] = np.frombuffer(_digest(record), np.uint8)

    def save(file: IO[bytes]) -> None:
        file.write(_header())
        file.write(_bytes(record))

    with suppress(OSError):
        folder = cache_dir()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.create(cache_file(folder, key), save)
        _prune(folder)


def _mapped(path: Path) -> Record | None:
    """The record in a file. Returns None if a byte of it is not what was written."""
    header = _header()
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != len(header) + LAYOUT.itemsize:
            return None
        if file.read(len(header)) != header:
            return None
        record = np.asarray(np.memmap(file, LAYOUT, "c", offset=len(header), shape=()))
    return record if record["digest"].tobytes() == _digest(record) else None


def _header() -> bytes:
    """What a .npy file of a record begins with."""
    header = io.BytesIO()
    description = np.lib.format.header_data_from_array_1_0(empty())
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def _bytes(record: Record) -> memoryview:
    return record.reshape(1).view(np.uint8).data


def _digest(record: Record) -> bytes:
    """SHA-256 of the SHA-256s of a record's pieces, all but the digest in it."""
    end = LAYOUT.itemsize - LAYOUT["digest"].itemsize
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
    files.remove_leftovers(folder, old_seconds=_ABANDONED_SECONDS)
