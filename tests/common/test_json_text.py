"""JSON without NaN and infinity, which strict parsers refuse."""

import json
import math
from typing import Any

import numpy as np

from src.common.json_text import json_text


def strictly_parsed(text: str) -> Any:
    """Parse JSON as a browser does. Raises ValueError for NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_values_that_json_lacks_become_null() -> None:
    rows = [{"loss": math.nan, "a": (math.inf, -math.inf)}, {"loss": np.float32("nan")}]
    assert strictly_parsed(json_text(rows)) == [{"loss": None, "a": [None, None]}, {"loss": None}]


def test_other_values_stay() -> None:
    value = {"x": [np.int64(3), np.bool_(True), 0.5, None, "NaN"], "y": {"z": 1}}
    assert strictly_parsed(json_text(value)) == {"x": [3, True, 0.5, None, "NaN"], "y": {"z": 1}}
