"""The linter, the formatter and the type checker report nothing."""

import pytest

from tests.conftest import RunCommand


@pytest.mark.parametrize(
    "words", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)]
)
def test_linter_and_type_checker_pass(command: RunCommand, words: tuple[str, ...]) -> None:
    command("python", "-m", *words)
