"""The linter and the type checker are content."""

import pytest

from tests.conftest import Run


@pytest.mark.parametrize(
    "words", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)]
)
def test_clean(command: Run, words: tuple[str, ...]) -> None:
    command("python", "-m", *words)
