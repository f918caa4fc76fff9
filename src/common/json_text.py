"""JSON of commands and of the page, which strict parsers and browsers read."""

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(value: Any) -> str:
    """Format a value as indented JSON; NaN and infinity become null."""
    return json.dumps(finite_values(value), indent=2, allow_nan=False)


def finite_values(value: Any) -> Any:
    """The value with null in place of NaN and infinity, which JSON does not have.

    Numbers of NumPy become those of Python.
    """
    if isinstance(value, Mapping):
        return {key: finite_values(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite_values(one) for one in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
