"""Output on a terminal: the console, tables, and durations as text."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH = 160  # columns if the output is not a terminal


def console() -> "Console":
    """A rich console on standard output. It shows text as it is: names may contain markup."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH
    return Console(width=width, highlight=False, soft_wrap=False, markup=False, emoji=False)


def plain_table(*headers: str) -> "Table":
    """A table without lines, two spaces between its columns."""
    from rich.table import Table

    return Table(*headers, box=None, padding=(0, 2, 0, 0))


def duration(seconds: float) -> str:
    """Format seconds: 42 s, 12 min, 3 h 05 min, 2 d 4 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{hours // 24} d {hours % 24} h"


def decimal_duration(seconds: float) -> str:
    """Format seconds with a decimal: 4.2 s, 1.5 min, 3.2 hours."""
    if seconds >= 7200:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / 60:,.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def clock(seconds: float) -> str:
    """Format seconds as a clock does: 0:42, 12:05, 3:05:00."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
