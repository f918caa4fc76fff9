"""What can end a command, and the exit status each ending has."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of every command of the project."""

    DONE = 0
    SOME_RUNS_FAILED = 1
    BAD_INPUT = 2
    STOPPED = 3  # by a signal, with everything saved


class UserError(Exception):
    """What a person got wrong, in one line that names it and says what is allowed."""


class InvalidValue(UserError):
    """A setting has a value that it cannot have."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        self.name, self.value, self.expected = name, value, expected
        super().__init__(f"{name} {str(value)!r}: expected {expected}")


class Stopped(Exception):
    """A signal asked for the end, and everything needed to go on is on disk."""


class Superseded(Exception):
    """Another process has taken this run over: what we would write is no longer wanted."""
