"""Reads what wandb wrote offline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEADER = 32_768, 7


def records(file: Path) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log format, after seven bytes of wandb's own.

    https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    from wandb.proto import wandb_internal_pb2 as proto

    data = file.read_bytes()
    assert data[:4] == b":W&B"
    place, parts = _HEADER, b""
    while place + _HEADER <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:
            place += left
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        parts += data[place + _HEADER : place + _HEADER + size]
        place += _HEADER + size
        if kind in (1, 4):  # in one piece, or its last
            record = proto.Record()  # type: ignore[attr-defined]
            record.ParseFromString(parts)
            parts = b""
            yield record
