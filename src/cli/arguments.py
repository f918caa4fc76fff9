"""The argument parser of all commands, and the types of its numbers."""

import argparse
import math
import re
import shutil
import textwrap
from collections.abc import Sequence
from typing import NoReturn

from src.common.errors import UserError
from src.common.option_fields import did_you_mean


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help of at most 80 columns that names the value of a flag once: -m, --model_type MODEL."""

    def __init__(self, prog: str) -> None:
        columns = min(80, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=28, width=max(60, columns - 2))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Wrap each paragraph of a description; an indented line is one of a table."""
        filled = []
        for line in re.sub(r"(?<=\S)\n(?=\S)", " ", text).splitlines():
            lead = indent + " " * (len(line) - len(line.lstrip()))
            wrapped = textwrap.wrap(line, width, initial_indent=indent, subsequent_indent=lead)
            filled += wrapped or [""]
        return "\n".join(filled)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


class Parser(argparse.ArgumentParser):
    """An argument parser with one-line errors, which accepts - for _ in long flags."""

    def __init__(self, **settings: object) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=HelpFormatter,
            **settings,  # type: ignore[arg-type]
        )

    def format_help(self) -> str:
        """The help, whose first line leaves the list of options to the groups below it."""
        values = [
            f"[{action.metavar} ...]" if action.nargs == "*" else str(action.metavar)
            for action in self._get_positional_actions()
        ]
        self.usage = " ".join(["%(prog)s", "[OPTION ...]", *values])
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse `arguments`. Raises UserError naming an unknown argument and similar known ones."""
        parsed, unknown = self.parse_known_args([_underscored(word) for word in arguments])
        if unknown:
            name = unknown[0].split("=")[0]
            known = [flag for action in self._actions for flag in action.option_strings]
            raise UserError(f"unknown argument {unknown[0]!r}{did_you_mean(name, known)}")
        return parsed


def _underscored(word: str) -> str:
    """Replace - by _ in the name of a long flag: --num-epochs=3 becomes --num_epochs=3."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


def positive_int(text: str) -> int:
    """argparse type: a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0")
    return int(text)


def non_negative_int(text: str) -> int:
    """argparse type: a whole number from 0."""
    return 0 if text == "0" else positive_int(text)


def seed(text: str) -> int:
    """argparse type: a seed for numpy and scikit-learn, 0 to 2^32 - 1."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0 to 2^32 - 1")
    return int(text)


def positive_float(text: str) -> float:
    """argparse type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return value


def non_negative_float(text: str) -> float:
    """argparse type: a number from 0."""
    try:
        return 0.0 if float(text) == 0 else positive_float(text)
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0") from None


def seconds(text: str) -> float:
    """argparse type: seconds between two updates of a display."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, 0.1 or more")
    return value
