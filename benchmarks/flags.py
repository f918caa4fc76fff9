"""An argparse type shared by the benchmarks."""

from argparse import ArgumentTypeError


def images(text: str) -> int:
    """Parse a number of training images, at least 1000, of which a fifth is held out."""
    if not text.isdecimal() or int(text) < 1000:
        raise ArgumentTypeError(f"{text!r}: expected a whole number, at least 1000")
    return int(text)
