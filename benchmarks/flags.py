"""Kinds of flags that the benchmarks' commands share."""

import math
from argparse import ArgumentTypeError


def above_zero(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"{text!r}: expected a number above 0")
    return value


def images(text: str) -> int:
    """A number of training images of which a fifth can be held out."""
    if not text.isdecimal() or int(text) < 1000:
        raise ArgumentTypeError(f"{text!r}: expected a whole number, at least 1000")
    return int(text)
