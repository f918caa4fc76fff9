"""Resume checkpoints, written beside training and trusted only after their checksum.

A run that is resumed gives the bits of the undisturbed run because a checkpoint holds every value
that training changes (weights, optimizer, metrics of the epoch, counters, history, best weights)
and because nothing else is random: the order of an epoch, augmentation and dropout are hashed from
seed, epoch and step (data/augmentation.py, training/model_setup.py), never drawn from a stream that
would have to be saved.
"""

import hashlib
import io
import pickle
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from src.common import files
from src.common.background import BackgroundThread
from src.common.paths import RESUME, RESUME_BEFORE

CheckpointState = dict[str, Any]

_MARK = b"sha256 "
_DIGEST_BYTES = 32


_thread = BackgroundThread("checkpoint")  # one for all runs: they share a disk


class CheckpointWriter:
    """Writes the checkpoints of one run off the thread that trains, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pending: Future[None] | None = None

    def start(self, state: CheckpointState, saved: Callable[[], object] = lambda: None) -> None:
        """Start writing the current `state`. Returns once it is copied.

        saved: called by the writing thread when it is on the disk.
        """
        self.wait()
        self._pending = _thread.submit(self._save, _on_host(state), saved)

    def _save(self, state: CheckpointState, saved: Callable[[], object]) -> None:
        save(self.folder, state)
        saved()

    def busy(self) -> bool:
        """Whether a checkpoint is being written. Raises OSError if the last write failed."""
        if self._pending and self._pending.done():
            self.wait()
        return self._pending is not None

    def wait(self) -> None:
        """Wait until the checkpoint is written. Raises OSError if that failed."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()


def _on_host(value: Any, copies: dict[int, Tensor] | None = None) -> Any:
    """A copy in host memory of a state, which training will not change.

    A tensor that stands in several places of it, as the weights of an epoch that was the best in
    accuracy and in loss, is copied once, and so written once.
    """
    copies = {} if copies is None else copies
    if isinstance(value, Tensor):
        if id(value) not in copies:
            copies[id(value)] = value.detach().cpu() if value.is_cuda else value.detach().clone()
        return copies[id(value)]
    if isinstance(value, dict):
        return {name: _on_host(item, copies) for name, item in value.items()}
    if isinstance(value, list):
        return [_on_host(item, copies) for item in value]
    return value


def save(folder: Path, state: CheckpointState) -> None:
    """Write resume.pt: whole or not at all, the one before it kept beside it.

    state: tensors, numbers, text, lists and dicts of them, on any device.
    """
    files.write(
        folder / RESUME, lambda file: _save_with_digest(state, file), folder / RESUME_BEFORE
    )


def load(folder: Path, device: torch.device) -> CheckpointState | None:
    """The newest whole checkpoint in `folder`, on `device`. Returns None if there is none."""
    for name in (RESUME, RESUME_BEFORE):
        state = read(folder / name, device)
        if state is not None:
            return state
    return None


def read(path: Path, device: torch.device) -> CheckpointState | None:
    """The checkpoint in a file. Returns None if it is missing, truncated, altered or unsafe."""
    try:
        data = memoryview(files.read_bytes(path))
    except FileNotFoundError:
        return None
    end = len(data) - _DIGEST_BYTES - len(_MARK)
    if end <= 0 or data[end : end + len(_MARK)] != _MARK:
        return None
    if hashlib.sha256(data[:end]).digest() != data[end + len(_MARK) :]:
        return None
    try:
        state = torch.load(io.BytesIO(data[:end]), map_location=device, weights_only=True)
    except pickle.UnpicklingError:  # it asks for more than tensors: it is none of ours
        return None
    return state if isinstance(state, dict) else None


def remove(folder: Path) -> None:
    """Remove the resume checkpoints of a run that is done."""
    for name in (RESUME, RESUME_BEFORE):
        (folder / name).unlink(missing_ok=True)


def _save_with_digest(state: CheckpointState, file: IO[bytes]) -> None:
    torch.save(state, file)
    file.flush()
    with Path(file.name).open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").digest()
    file.write(_MARK + digest)
