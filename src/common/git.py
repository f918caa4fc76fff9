"""The git commit of the code that runs."""

import subprocess
from contextlib import suppress
from functools import cache

from src.common.paths import COMMIT, ROOT


@cache
def git_commit() -> str | None:
    """The commit of this checkout, marked where files differ from it; None without git.

    Read once and cached, since the running code was loaded then. A submission's copy of the
    code has its commit in a file.
    """
    with suppress(FileNotFoundError):
        return (ROOT / COMMIT).read_text().strip() or None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
