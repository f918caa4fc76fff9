"""Resume checkpoints that are trusted only after their checksum."""

import hashlib
import io
from pathlib import Path
from typing import IO, Any

import torch

from src import files
from src.paths import RESUME, RESUME_BEFORE

State = dict[str, Any]

_MARK = b"sha256 "
_DIGEST_BYTES = 32


def save(folder: Path, state: State) -> None:
    """Write resume.pt: whole or not at all, the one before it kept beside it.

    state: tensors, numbers, text, lists and dicts of them, on any device.
    """
    files.write(
        folder / RESUME, lambda file: _save_with_digest(state, file), folder / RESUME_BEFORE
    )


def load(folder: Path, device: torch.device) -> State | None:
    """The newest checkpoint in `folder` that is whole, on `device`; None where there is none."""
    for name in (RESUME, RESUME_BEFORE):
        state = read(folder / name, device)
        if state is not None:
            return state
    return None


def read(path: Path, device: torch.device) -> State | None:
    """The checkpoint in a file; None where it is missing, cut short or altered."""
    try:
        data = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    end = len(data) - _DIGEST_BYTES - len(_MARK)
    if end <= 0 or data[end : end + len(_MARK)] != _MARK:
        return None
    if hashlib.sha256(data[:end]).digest() != data[end + len(_MARK) :]:
        return None
    state: State = torch.load(io.BytesIO(data[:end]), map_location=device, weights_only=True)
    return state


def remove(folder: Path) -> None:
    """Remove the resume checkpoints of a run that is done."""
    for name in (RESUME, RESUME_BEFORE):
        (folder / name).unlink(missing_ok=True)


def _save_with_digest(state: State, file: IO[bytes]) -> None:
    torch.save(state, file)
    file.flush()
    with Path(file.name).open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").digest()
    file.write(_MARK + digest)
