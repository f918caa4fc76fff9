"""The outcome of a check, and the table of all of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from rich.table import Table
from rich.text import Text


class Level(StrEnum):
    """Severity; with a WRONG check a sweep would fail."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and one line of help unless it is ok."""

    name: str
    level: Level
    finding: str
    help: str = ""


def ok(name: str, finding: str) -> Check:
    """A check that is fine."""
    return Check(name, Level.OK, finding)


def warning(name: str, finding: str, help: str) -> Check:
    """A check that may be trouble."""
    return Check(name, Level.WARNING, finding, help)


def wrong(name: str, finding: str, help: str) -> Check:
    """A check with which a sweep would fail."""
    return Check(name, Level.WRONG, finding, help)


def checks_table(checks: Iterable[Check]) -> Table:
    """The checks as a table, with the help below each finding."""
    colors = {Level.OK: "green", Level.WARNING: "yellow", Level.WRONG: "red"}
    table = Table("check", "outcome", "finding", box=None, pad_edge=False)
    for check in checks:
        text = f"{check.finding}\n-> {check.help}" if check.help else check.finding
        table.add_row(check.name, Text(check.level, style=colors[check.level]), text)
    return table
