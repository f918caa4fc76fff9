"""Colours and markers that tell lines apart, also for whoever cannot tell ten colours."""

from collections.abc import Mapping

import seaborn as sns

Places = Mapping[str, int]
"""The number of each architecture of a report: the same colour and marker in all of its charts."""

_MARKERS = "osD^vPX"  # not as many as colours: no two of 70 lines look alike


def colour(place: int) -> tuple[float, float, float]:
    """Of the line number `place`, from 0."""
    palette = sns.color_palette("colorblind")
    red, green, blue = palette[place % len(palette)]
    return red, green, blue


def marker(place: int) -> str:
    """Of the line number `place`, from 0."""
    return _MARKERS[place % len(_MARKERS)]
