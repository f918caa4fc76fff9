"""Signals that ask a command to stop: SIGTERM, SIGUSR1 and SIGINT."""

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

_last_received: signal.Signals | None = None


class StopSignal:
    """A callable that returns True once a signal has asked the process to stop.

    The handler only records the signal: work stops where it is safe, between two steps.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def install(self, *further: signal.Signals) -> "StopSignal":
        """Install the handlers. A second SIGINT then interrupts at once, as by default."""
        for number in (*SIGNALS, *further):
            signal.signal(number, self._record)
        return self

    def __call__(self) -> bool:
        return self.received is not None

    def _record(self, number: int, frame: FrameType | None) -> None:
        global _last_received
        self.received = _last_received = signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupted_from_keyboard() -> bool:
    """Whether the last signal that asked this process to stop was SIGINT: a person is there."""
    return _last_received == signal.SIGINT
