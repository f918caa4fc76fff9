"""Keyword options of an architecture as text: depth=2,width=16, in the order of their names."""

import math
import re
from collections.abc import Mapping

Value = int | float | bool | str

_NAME = r"[A-Za-z_]\w*"
_TEXT = r"[\w.+:/@-]+"
PATTERN = rf"{_NAME}={_TEXT}(?:,{_NAME}={_TEXT})*"
"""Regular expression of the text, for ASCII."""
IN_WORDS = (
    "NAME=VALUE, or several with commas between them; a value is a number, true, false or a word"
)
_WORDS = {"true": True, "false": False}


def canonical(given: object) -> str | None:
    """The same text for the same options, given as text or as a mapping.

    None if they are neither, or if an option is given twice.
    """
    if isinstance(given, Mapping):
        if not given or not all(isinstance(value, Value) for value in given.values()):
            return None
        given = ",".join(f"{name}={_as_text(value)}" for name, value in given.items())
    if not isinstance(given, str) or not re.fullmatch(PATTERN, given, re.ASCII):
        return None
    pairs = [pair.partition("=")[::2] for pair in given.split(",")]
    options = {name: _as_text(_value(text)) for name, text in pairs}
    if len(options) < len(pairs):
        return None
    return ",".join(f"{name}={options[name]}" for name in sorted(options))


def parse(text: str | None) -> dict[str, Value]:
    """The options in a canonical text. Numbers, true and false are what they read as."""
    pairs = (pair.partition("=")[::2] for pair in text.split(",")) if text else ()
    return {name: _value(value) for name, value in pairs}


def _value(text: str) -> Value:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.IGNORECASE):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
