"""An argument parser whose complaints are one line, and the kinds of numbers that it reads."""

import argparse
import math
from collections.abc import Sequence
from typing import NoReturn

from src.common.errors import UserError
from src.common.option_fields import did_you_mean


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, and which takes - for _ in long flags."""

    def __init__(self, **settings: object) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **settings,  # type: ignore[arg-type]
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse all of `arguments`. Raises UserError naming what is unknown and what is near it."""
        parsed, unknown = self.parse_known_args([_underscored(word) for word in arguments])
        if unknown:
            name = unknown[0].split("=")[0]
            known = [flag for action in self._actions for flag in action.option_strings]
            raise UserError(f"unknown argument {unknown[0]!r}{did_you_mean(name, known)}")
        return parsed


def _underscored(word: str) -> str:
    """--num-epochs=3 as --num_epochs=3."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


def positive_int(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0")
    return int(text)


def non_negative_int(text: str) -> int:
    """A whole number from 0, for argparse."""
    return 0 if text == "0" else positive_int(text)


def seed(text: str) -> int:
    """A seed of numpy's and scikit-learn's random streams, for argparse."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0 to 2^32 - 1")
    return int(text)


def positive_float(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return value


def seconds(text: str) -> float:
    """Seconds between two looks, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, 0.1 or more")
    return value
