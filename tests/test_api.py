"""The names in docs/api.md can be imported, and its examples run."""

import ast
import importlib
import os
import re
import runpy
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from src.common.paths import ROOT
from src.run import RunOptions
from tests.markdown import blocks

TEXT = (ROOT / "docs" / "api.md").read_text()
CODE = "\n".join(blocks(TEXT, "python"))
LISTED = re.findall(r"^\| `(src\.[\w.]+)` \|", TEXT, re.MULTILINE)


def import_name(dotted: str) -> Any:
    """Import a module, or an attribute of one, by its dotted name."""
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError:
        module, _, name = dotted.rpartition(".")
        return getattr(importlib.import_module(module), name)


def names_used_by(code: str) -> set[str]:
    """Return the dotted names under src that code imports or reads from an imported module."""
    tree = ast.parse(code)
    names: set[str] = set()
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("src"):
            for alias in node.names:
                dotted = f"{node.module}.{alias.name}"
                if isinstance(import_name(dotted), ModuleType):
                    modules[alias.asname or alias.name] = dotted
                else:
                    names.add(dotted)
        elif isinstance(node, ast.Import):
            modules |= {alias.name: alias.name for alias in node.names if "src" in alias.name}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules:
            names.add(f"{modules[ast.unparse(node.value)]}.{node.attr}")
    return names


@pytest.mark.parametrize("name", LISTED)
def test_listed_name_is_importable_and_has_docstring(name: str) -> None:
    assert callable(import_name(name))
    assert import_name(name).__doc__


def test_text_names_every_option_of_run() -> None:
    text = TEXT.partition("`RunOptions` has ")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", text) == [spec.name for spec in fields(RunOptions)]


def test_examples_use_exactly_the_listed_names() -> None:
    assert names_used_by(CODE) == set(LISTED)
    assert len(LISTED) == len(set(LISTED)) == 10


def test_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All examples run in order as one script, in an empty folder."""
    (tmp_path / "example.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path("example.py")
    assert sorted(os.listdir()) == ["api_runs", "api_sets", "example.py"]
    [outcome] = names["outcomes"]
    assert names["table"]["run_id"].tolist() == [outcome.config.id]
    assert outcome.config.id in capsys.readouterr().out
