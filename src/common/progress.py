"""How far a command is that takes more than a moment: a bar on a terminal, lines in a log."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
ShowProgress = Callable[[Sequence[T], str], Iterable[T]]
"""Passes items on, whatever is told of how far that is."""

_FIRST_SECONDS = 3.0  # what is done sooner needs no line
_EVERY_SECONDS = 10.0


def silent(items: Sequence[T], doing: str) -> Iterable[T]:
    """`items`, and nothing is said."""
    return items


def show_progress(items: Sequence[T], doing: str) -> Iterator[T]:
    """Yield `items`, and tell on stderr how many are done and how long the rest will take."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(items, doing, console=Console(stderr=True), transient=True)
        return
    began = time.monotonic()
    due = began + _FIRST_SECONDS
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now >= due:
            left = (now - began) / done * (len(items) - done)
            print(
                f"{doing}: {done:,} of {len(items):,}, about {left:,.0f} s left",
                file=sys.stderr,
                flush=True,
            )
            due = now + _EVERY_SECONDS
        yield item
