"""The data in a report page."""

import base64
import gzip
import json
import re
from typing import Any


def part(page: str, name: str) -> str:
    """The text of the script element with this id."""
    found = re.search(rf'<script type="[a-z/]+" id="{name}">(.*?)</script>', page, flags=re.DOTALL)
    assert found
    return found[1]


def core_of(page: str) -> dict[str, Any]:
    """What is shown when the page opens."""
    core: dict[str, Any] = json.loads(part(page, "data"))
    return core


def runs_of(page: str) -> dict[str, Any]:
    """What is shown of each run, by its key."""
    runs: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(part(page, "packed"))))
    return runs
