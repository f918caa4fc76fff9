"""What can end a command, and the exit status each ending has."""

import errno
import os
from collections.abc import Sequence
from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of every command of the project."""

    DONE = 0
    SOME_RUNS_FAILED = 1
    BAD_INPUT = 2
    STOPPED = 3  # by a signal, with everything saved, or by trouble of its node


class UserError(Exception):
    """What a person got wrong, in one line that names it and says what is allowed."""


class InvalidValue(UserError):
    """A setting has a value that it cannot have."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        self.name, self.value, self.expected = name, value, expected
        super().__init__(f"{name} {str(value)!r}: expected {expected}")


class Stopped(Exception):
    """A signal asked for the end, and everything needed to go on is on disk."""


class NodeFailure(Stopped):
    """The node failed a run: the process must end, and go on elsewhere from the checkpoints.

    exclude: nodes that a job should not come back to.
    """

    def __init__(self, message: str, exclude: Sequence[str] = ()) -> None:
        self.exclude = tuple(exclude)
        super().__init__(message)


class SweepStopped(Exception):
    """Going on would break more runs in the same way: in one line, why, and how to go on."""


class DiskFull(OSError):
    """A file does not fit where it belongs. needed and free: bytes; None where unknown."""

    def __init__(self, number: int, path: str, needed: int | None, free: int | None) -> None:
        super().__init__(number, os.strerror(number), path)
        self.needed, self.free = needed, free

    def __str__(self) -> str:
        needed = "more" if self.needed is None else f"about {amount(self.needed)}"
        free = "" if self.free is None else f", {amount(self.free)} is free there"
        return f"{self.filename}: {self.strerror}: {needed} is needed{free}"


def is_disk_full(error: OSError) -> bool:
    """Whether a write failed because the file system or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class OutOfMemory(Exception):
    """A run does not fit on the device, though it has that to itself: with how much it needed."""


class NonFiniteLoss(ArithmeticError):
    """The loss is no longer a number: nothing that follows could mean anything."""


class LeaseLost(Exception):
    """Another process has taken this run over: what we would write is no longer wanted."""


def amount(count: float) -> str:
    """Bytes as a person reads them."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"
