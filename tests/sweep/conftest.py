"""What the tests of sweeps share: a stand-in for squeue."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

Fake = Callable[[str], Path]


@pytest.fixture
def squeue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """Put a squeue with this body on PATH; the file that its arguments are written to."""

    def put(body: str) -> Path:
        script, asked = tmp_path / "bin" / "squeue", tmp_path / "asked"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/bash\necho $* >>{asked}\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        return asked

    return put
