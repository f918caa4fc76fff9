"""A kind of flag that the benchmarks' commands share."""

from argparse import ArgumentTypeError


def images(text: str) -> int:
    """A number of training images of which a fifth can be held out."""
    if not text.isdecimal() or int(text) < 1000:
        raise ArgumentTypeError(f"{text!r}: expected a whole number, at least 1000")
    return int(text)
