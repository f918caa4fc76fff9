"""Read the data embedded in a report page."""

import base64
import gzip
import json
import re
from typing import Any


def script_text(page: str, name: str) -> str:
    """Return the text of the script element with an id."""
    match = re.search(rf'<script type="[a-z/]+" id="{name}">(.*?)</script>', page, flags=re.DOTALL)
    assert match
    return match[1]


def core_of(page: str) -> dict[str, Any]:
    """Return the data of the overview, tables and charts."""
    core: dict[str, Any] = json.loads(script_text(page, "data"))
    return core


def runs_of(page: str) -> dict[str, Any]:
    """Return the details of all runs by key."""
    runs: dict[str, Any] = json.loads(
        gzip.decompress(base64.b64decode(script_text(page, "packed")))
    )
    return runs
