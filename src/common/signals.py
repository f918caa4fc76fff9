"""Signals that ask a command to stop: SIGTERM, SIGUSR1 and SIGINT."""

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopSignal:
    """True once one of the signals has come. Its handler does nothing but note that."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def install(self, *further: signal.Signals) -> "StopSignal":
        """Listen from now on; a second SIGINT kills as if nobody listened."""
        for number in (*SIGNALS, *further):
            signal.signal(number, self._note)
        return self

    def __call__(self) -> bool:
        return self.received is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
