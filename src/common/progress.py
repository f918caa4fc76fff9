"""Progress of a slow loop: a bar on a terminal, lines in a log, nothing if it is short."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
ShowProgress = Callable[[Sequence[T], str], Iterable[T]]
"""Wraps items to show the progress of a loop over them; the text says what it does."""

_FIRST_SECONDS = 3.0  # a loop that ends sooner prints nothing
_EVERY_SECONDS = 10.0


def silent(items: Sequence[T], doing: str) -> Iterable[T]:
    """`items` without any output."""
    return items


def show_progress(items: Sequence[T], doing: str) -> Iterator[T]:
    """Yield `items`, and show on stderr how many are done and how long the rest will take."""
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
