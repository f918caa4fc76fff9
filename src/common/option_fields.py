"""Fields of a config: default, flag, help, allowed values and when they have an effect."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, field
from typing import Any, get_args

from src.common.errors import InvalidValue

_COMPARE = {
    "at least": operator.ge,
    "above": operator.gt,
    "at most": operator.le,
    "below": operator.lt,
}


def option(
    default: object,
    help: str,
    *,
    short: str | None = None,
    choices: object = None,
    pattern: tuple[str, str] | None = None,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    matters_if: Mapping[str, tuple[object, ...]] | None = None,
    changes_result: bool = True,
    group: str = "",
    metavar: str = "",
    canonical: Callable[[object], str | None] | None = None,
) -> Any:
    """A field of RunConfig, with its flag, its help and the values it accepts.

    pattern: a regular expression of further values beside `choices`, and what help calls them.
    canonical: makes equal text of values that mean the same; None for one that is not allowed.
    matters_if: other fields, and the values of theirs for which this field can change a result.
    changes_result: False for paths, devices and what is kept or logged. group: the heading under
    which --help lists the flag. metavar: what --help calls its value.
    """
    return field(
        default=default,
        metadata={
            "help": help,
            "short": short,
            "choices": choices,
            "pattern": pattern,
            "bounds": {"at least": minimum, "above": above, "at most": maximum, "below": below},
            "matters_if": matters_if or {},
            "changes_result": changes_result,
            "group": group,
            "metavar": metavar,
            "canonical": canonical,
        },
    )


def did_you_mean(name: str, known: list[str]) -> str:
    """The end of an error line about an unknown name: similar names, or all if there are few."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=2)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{hint} (known: {', '.join(known)})" if len(known) <= 12 or not close else hint


def expectation(spec: "Field[Any]") -> str:
    """What a field accepts, in words."""
    choices = choices_of(spec)
    if choices:
        return f"one of {', '.join(shown_choices(spec))}"
    kind = kind_of(spec)
    if kind == "bool":
        return "True, False or none" if _optional(spec) else "True or False"
    if kind == "str":
        return " ".join(_further(spec)) or "text"
    noun = "a whole number" if kind == "int" else "a number"
    bounds = [f"{word} {bound:g}" for word, bound in _bounds(spec).items()]
    text = " ".join([noun, " and ".join(bounds)]).strip()
    return f"{text}, or none" if _optional(spec) else text


def choices_of(spec: "Field[Any]") -> tuple[str, ...]:
    """The values that a field can have, if they are listed."""
    choices = spec.metadata["choices"]
    return tuple(choices() if callable(choices) else choices or ())


def _further(spec: "Field[Any]") -> list[str]:
    """What a field accepts beside its choices, in words."""
    pattern = spec.metadata["pattern"]
    return [pattern[1]] if pattern else []


def shown_choices(spec: "Field[Any]") -> list[str]:
    """The choices of a field as help lists them."""
    return [*choices_of(spec), *_further(spec)] if choices_of(spec) else []


def kind_of(spec: "Field[Any]") -> str:
    """The type of a field: bool, int, float or str; for `X | None` that of X."""
    first, *_ = get_args(spec.type) or (spec.type,)
    return str(first.__name__)


def _optional(spec: "Field[Any]") -> bool:
    return spec.default is None


def _bounds(spec: "Field[Any]") -> dict[str, float]:
    return {word: bound for word, bound in spec.metadata["bounds"].items() if bound is not None}


def checked(spec: "Field[Any]", value: object) -> object:
    """`value` converted to the type of the field. Raises InvalidValue if it is not allowed."""
    if _optional(spec) and value in (None, "none", "None"):
        return None
    canonical = spec.metadata["canonical"]
    converted = _converted(kind_of(spec), canonical(value) if canonical else value)
    choices = choices_of(spec)
    is_listed = bool(choices or spec.metadata["pattern"])
    if (
        converted is None
        or (is_listed and converted not in choices and not _matches(spec, converted))
        or not all(_COMPARE[word](converted, bound) for word, bound in _bounds(spec).items())
    ):
        raise InvalidValue(spec.name, value, expectation(spec))
    return converted


def _matches(spec: "Field[Any]", value: object) -> bool:
    pattern = spec.metadata["pattern"]
    return bool(pattern and re.fullmatch(pattern[0], str(value), re.ASCII))


def _converted(kind: str, value: object) -> Any:
    """`value` as bool, int, float or str. Returns None if that cannot be done without loss."""
    if kind == "bool":
        words = {"true": True, "false": False}
        return value if isinstance(value, bool) else words.get(str(value).lower())
    if kind == "str":
        return value if isinstance(value, str) and value.isprintable() and value else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
        if not math.isfinite(number):
            return None
        if kind == "float":
            return number
        whole = int(value)
    except (ValueError, OverflowError):
        return None
    return whole if whole == number and abs(whole) < 2**63 else None
