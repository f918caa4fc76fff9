"""Exceptions that end a command, and its exit statuses."""

import errno
import os
from dataclasses import dataclass
from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of every command of the project."""

    DONE = 0
    SOME_RUNS_FAILED = 1
    BAD_INPUT = 2
    STOPPED = 3  # by a signal, with everything saved, or because the node is at fault


class UserError(Exception):
    """Bad input, in one line that names what is wrong and what is allowed."""


class InvalidValue(UserError):
    """A setting has a value that is not allowed."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        self.name, self.value, self.expected = name, value, expected
        super().__init__(f"{name} {str(value)!r}: expected {expected}")


@dataclass(frozen=True)
class Restart:
    """How the Slurm job of a stopped process should run again."""

    exclude: tuple[str, ...] = ()
    """Nodes on which it should not run."""
    readmit: tuple[str, ...] = ()
    """Nodes that an earlier restart excluded, and that count as good again."""
    without_progress: int = 0
    """How many of its starts in a row, this one included, have saved no step of training."""


class Stopped(Exception):
    """A signal asked the process to stop. Its message says what is not saved, if any."""

    restart = Restart()


class RestartNeeded(Stopped):
    """This process cannot go on, although its runs can: from their last checkpoints, in another.

    The GPU or the file system failed it.
    """


class NodeFailure(RestartNeeded):
    """The node is at fault: the runs of this process continue on another node."""


class SweepStopped(Exception):
    """The circuit breaker is open: in one line why, and how to continue."""


class DiskFull(OSError):
    """The file system is full. needed, free: bytes, or None if unknown."""

    def __init__(self, number: int, path: str, needed: int | None, free: int | None) -> None:
        super().__init__(number, os.strerror(number), path)
        self.needed, self.free = needed, free

    def __str__(self) -> str:
        needed = "more" if self.needed is None else f"about {format_bytes(self.needed)}"
        free = "" if self.free is None else f", {format_bytes(self.free)} is free there"
        return f"{self.filename}: {self.strerror}: {needed} is needed{free}"


def is_disk_full(error: OSError) -> bool:
    """Whether a write failed because the file system or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class OutOfMemory(Exception):
    """A run does not fit on the device although nothing else trains there. Says what it needed."""


class NonFiniteLoss(ArithmeticError):
    """The loss is infinite or not a number: the run has diverged."""


class NotTrainedHere(Exception):
    """Why a run is left as it is, such as a precision that is slow on this device."""


class LeaseLost(Exception):
    """Another process has taken the run over: this process must write nothing more to it."""


def one_line(text: object) -> str:
    """Join the lines of a text or of an exception's message; an empty message: the class's name."""
    line = " ".join(str(text).split())
    return type(text).__name__ if not line and isinstance(text, BaseException) else line


def class_and_message(error: BaseException) -> str:
    """An exception in one line: `ValueError: what it says`, or its class alone."""
    name, message = type(error).__name__, one_line(error)
    return name if message == name else f"{name}: {message}"


def format_bytes(count: float) -> str:
    """Format a number of bytes: 3.1 MB."""
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"
