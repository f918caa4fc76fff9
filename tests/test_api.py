"""The names in docs/api.md can be imported, and its examples run."""

import ast
import importlib
import os
import re
import runpy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from src.common.paths import ROOT
from tests.markdown import blocks

TEXT = (ROOT / "docs" / "api.md").read_text()
CODE = "\n".join(blocks(TEXT, "python"))
LISTED = re.findall(r"^\| `(src\.[\w.]+)` \|", TEXT, re.MULTILINE)


def resolved(dotted: str) -> Any:
    """What a dotted name stands for: a module, or something in one."""
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError:
        module, _, name = dotted.rpartition(".")
        return getattr(importlib.import_module(module), name)


def used(code: str) -> set[str]:
    """The dotted names of src that some code imports, or reads from a module that it imports."""
    tree = ast.parse(code)
    names: set[str] = set()
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("src"):
            for alias in node.names:
                dotted = f"{node.module}.{alias.name}"
                if isinstance(resolved(dotted), ModuleType):
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
def test_a_listed_name_can_be_imported_and_is_documented(name: str) -> None:
    assert callable(resolved(name))
    assert resolved(name).__doc__


def test_the_examples_use_exactly_what_is_listed() -> None:
    assert used(CODE) == set(LISTED)
    assert len(LISTED) == len(set(LISTED)) == 10


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order, as one script, in a folder of their own."""
    (tmp_path / "example.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path("example.py")
    assert sorted(os.listdir()) == ["api_runs", "api_sets", "example.py"]
    [outcome] = names["outcomes"]
    assert names["table"]["run_id"].tolist() == [outcome.config.id]
    assert outcome.config.id in capsys.readouterr().out
