"""Data flows one way, and imports follow it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.common.paths import ROOT

CHAIN = [
    *("common", "slurm", "faults", "config", "cli", "cpu"),
    *("data", "models", "training", "runs", "report"),
]
BESIDE = ("sweep", "tune", "tracking", "train", "evaluate", "main")
LATE = ("wandb", "submitit", "optuna", "plotly")

MODULES = sorted((ROOT / "src").rglob("*.py"))


def room(module: str) -> str:
    """The room of a module named src.x.y."""
    return [*module.split("."), ""][1]


def nodes(tree: ast.AST, *, at_import: bool) -> Iterator[ast.AST]:
    """All nodes below `tree`, or those that run when it is imported."""
    for node in ast.iter_child_nodes(tree):
        if not (at_import and _runs_later(node)):
            yield node
            yield from nodes(node, at_import=at_import)


def _runs_later(node: ast.AST) -> bool:
    """Bodies of functions run when they are called, what is for type checkers never."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def imports(tree: ast.AST, *, at_import: bool = False) -> list[str]:
    found: list[str] = []
    for node in nodes(tree, at_import=at_import):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def backward(module: str, imported: str) -> bool:
    """Whether an import of `imported` in `module` goes against the flow."""
    here, there = room(module), room(imported)
    if not imported.startswith("src.") or here not in CHAIN or here == there:
        return False
    return there not in CHAIN or CHAIN.index(there) > CHAIN.index(here)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_arrow_goes_backward(path: Path) -> None:
    module, found = module_name(path), imports(ast.parse(path.read_text()))
    allowed = {
        "src.report": "src.cli",  # a door of its own
        "src.report.page.standing": "src.sweep",  # the page shows what status tells
    }
    for imported in found:
        if any(module.startswith(here) and imported.startswith(allowed[here]) for here in allowed):
            continue
        assert not backward(module, imported), f"{module} imports {imported}"
    if module == "src.run":
        assert not [i for i in found if room(i) in BESIDE]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_heavy_libraries_are_imported_late(path: Path) -> None:
    found = imports(ast.parse(path.read_text()), at_import=True)
    assert not [name for name in found if name.split(".")[0] in LATE]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nothing_needs_what_only_measures_or_tests(path: Path) -> None:
    found = imports(ast.parse(path.read_text()))
    assert not [name for name in found if name.split(".")[0] in ("benchmarks", "tests")]


def test_the_checks_can_fail() -> None:
    late = ast.parse(
        "import os\ndef f():\n    import wandb\nif True:\n    import optuna.x\n"
        "if TYPE_CHECKING:\n    import plotly\n"
    )
    assert imports(late, at_import=True) == ["os", "optuna.x"]
    assert imports(late) == ["os", "wandb", "optuna.x", "plotly"]
    assert backward("src.training.trainer", "src.runs.run_folder")
    assert backward("src.data.split", "src.models.create")
    assert backward("src.runs.run_folder", "src.run.run")
    assert not backward("src.training.trainer", "src.data.split")
