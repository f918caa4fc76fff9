"""Failure classes: one classification of exceptions and of recorded failures."""

import errno
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from src.common.errors import UserError, is_disk_full
from src.common.file_retries import FILE_SYSTEM_ERRORS


class FailureClass(StrEnum):
    """Why a run failed, by what is to be done about it."""

    MEMORY = "out of memory"
    """Tried again beside fewer runs; failed if it was alone."""
    DISK = "no space left"
    """Not the fault of a run: the worker stops."""
    NODE = "node trouble"
    """Evidence against the node. Tried again in another process, on another node if it repeats."""
    CUDA = "CUDA error"
    """The GPU context of the process is lost: a bug, a driver, or a GPU. Tried again in another
    process a limited number of times."""
    FILE_SYSTEM = "file system error"
    """Waited out for a while; then the process ends, and its runs continue in another one."""
    DIVERGED = "non-finite loss"
    """Not tried again: it would diverge again."""
    OTHER = "other"
    """Probably a bug. Tried again a limited number of times."""


MAY_BE_BUGS = (FailureClass.OTHER, FailureClass.CUDA)
"""Classes that the circuit breaker counts."""
_BY_NUMBER = {
    **dict.fromkeys(FILE_SYSTEM_ERRORS, FailureClass.FILE_SYSTEM),
    errno.ENOMEM: FailureClass.MEMORY,
}
HARDWARE = r"\bECC\b|GPU is lost|fallen off the bus|hardware stack error"
"""Messages that only a broken GPU gives."""
INITIALISATION = (
    r"no CUDA-capable device|CUDA driver initialization failed|driver version is insufficient"
    r"|Driver/library version mismatch|initialization error|system not yet initialized"
    r"|all CUDA-capable devices are busy|invalid device ordinal|NVML|no GPU of this job"
)
"""Messages of a GPU that cannot be used: the node's fault, unless other nodes give them too."""
_BY_TEXT = {
    FailureClass.DIVERGED: r"^(non-finite loss|NonFiniteLoss)\b",
    FailureClass.MEMORY: r"out ?of ?memory|(can't|cannot) allocate memory|MemoryError|bad_alloc"
    r"|STATUS_ALLOC_FAILED",
    FailureClass.DISK: r"No space left on device|Disk quota exceeded",
    FailureClass.NODE: rf"{HARDWARE}|{INITIALISATION}",
    FailureClass.CUDA: r"CUDA error: (unspecified launch failure|an illegal memory access"
    r"|unknown error|misaligned address|device not ready|device-side assert"
    r"|an illegal instruction)|\bNCCL|CUDA unknown error",
    FailureClass.FILE_SYSTEM: r"Input/output error|Stale file handle|Remote I/O error",
}


def classify(error: BaseException) -> FailureClass:
    """The class of an exception, or of the one that it was raised from."""
    causes = (_own_cause(exception) for exception in _chain(error))
    return next((cause for cause in causes if cause is not FailureClass.OTHER), FailureClass.OTHER)


def recorded_class(failure: Mapping[str, Any]) -> FailureClass:
    """The class in a failure.json, or by its message if it is from before classes were recorded."""
    try:
        return FailureClass(failure["cause"])
    except (KeyError, ValueError):
        return _cause_of_text(f"{failure.get('kind')}: {failure.get('message', '')}")


def affects_every_run(error: Exception) -> bool:
    """Whether the next run would fail with the same exception."""
    own = (FailureClass.NODE, FailureClass.CUDA, FailureClass.MEMORY)
    return isinstance(error, UserError | OSError) and classify(error) not in own


def _own_cause(error: BaseException) -> FailureClass:
    if isinstance(error, UserError):
        return FailureClass.OTHER
    if (
        isinstance(error, OSError) and error.errno is not None
    ):  # its text contains a path, which could match anything
        full = FailureClass.DISK if is_disk_full(error) else FailureClass.OTHER
        return _BY_NUMBER.get(error.errno, full)
    return _cause_of_text(f"{type(error).__name__}: {error}")


def _cause_of_text(text: str) -> FailureClass:
    for cause, pattern in _BY_TEXT.items():
        if re.search(pattern, text, re.IGNORECASE):
            return cause
    return FailureClass.OTHER


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
