"""Packages import only from earlier ones, without circles; module and type names are unique."""

import ast
import re

import pytest

from docs import code_metrics
from docs.code_metrics import Module, imported_names, is_backward
from src.common.paths import ROOT

MODULES = code_metrics.modules()
README = ROOT / "README.md"
COMMANDS_AND_TRACKING = ("sweep", "tune", "tracking", "train", "evaluate", "main")
SLURM_COMMANDS = {"sbatch", "squeue", "sinfo", "sacct", "sacctmgr", "scontrol", "scancel", "srun"}
LAZY_LIBRARIES = ("wandb", "submitit", "optuna", "plotly")
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


def test_packages_import_only_from_earlier_packages() -> None:
    assert code_metrics.backward_imports(MODULES) == []


def test_order_of_imports_has_every_package_and_module() -> None:
    packages = [module.name.split(".")[1] for module in MODULES if module.name != "src"]
    assert sorted(code_metrics.CHAIN) == sorted(set(packages))
    rows = re.findall(r"^\| `src/([^`]+?)(?:/|\.py)` \|", README.read_text(), re.MULTILINE)
    assert tuple(rows) == code_metrics.CHAIN, "the map in README.md"


def test_import_graph_has_no_circles() -> None:
    assert code_metrics.circle(code_metrics.import_graph(MODULES)) == []


def test_module_and_class_names_are_unique() -> None:
    assert code_metrics.duplicate_module_names(MODULES) == []
    assert code_metrics.duplicate_class_names(MODULES) == []


def test_run_module_does_not_import_commands_or_tracking() -> None:
    [run] = [module for module in MODULES if module.name == "src.run"]
    assert not [
        name
        for name in imported_names(run.tree)
        if {*name.split(".")[1:2]} & {*COMMANDS_AND_TRACKING}
    ]


@each_module
def test_heavy_libraries_are_imported_inside_functions(module: Module) -> None:
    imported = imported_names(module.tree, at_import=True)
    assert not [name for name in imported if name.split(".")[0] in LAZY_LIBRARIES]


@each_module
def test_src_does_not_import_benchmarks_tests_or_docs(module: Module) -> None:
    imported = imported_names(module.tree)
    assert not [name for name in imported if name.split(".")[0] in ("benchmarks", "tests", "docs")]


@each_module
def test_only_the_slurm_package_names_commands_of_slurm(module: Module) -> None:
    named = [] if module.package == "slurm" else strings(module.tree) & SLURM_COMMANDS
    assert not named


def strings(tree: ast.AST) -> set[str]:
    """Return the string literals of a module."""
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {node.value for node in constants if isinstance(node.value, str)}


def test_import_checks_detect_violations() -> None:
    tree = ast.parse(
        "import os\ndef f():\n    import wandb\nif True:\n    import optuna.x\n"
        "if TYPE_CHECKING:\n    import plotly\n"
    )
    assert imported_names(tree, at_import=True) == ["os", "optuna.x"]
    assert imported_names(tree) == ["os", "wandb", "optuna.x", "plotly"]
    assert is_backward("src.training.trainer", "src.runs.run_folder")
    assert is_backward("src.data.split", "src.models.create")
    assert is_backward("src.runs.run_folder", "src.run.run")
    assert is_backward("src.training.trainer", "src.pruning.pruner")
    assert is_backward("src.report.commands", "src.sweep.status.page_state")
    assert is_backward("src.train", "src.sweep.sets")
    assert not is_backward("src.report.__main__", "src.sweep.status.page_state")
    assert not is_backward("src.training.trainer", "src.data.split")
    call = ast.parse('run(["squeue", "--me"])')
    assert strings(call) & SLURM_COMMANDS == {"squeue"}
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert {*code_metrics.circle(graph)} == {"b", "c"}
    assert code_metrics.circle({**graph, "c": set()}) == []


def test_names_of_type_aliases_count_as_names_of_classes() -> None:
    text = "from typing import Any\n\nRow = dict[str, Any]\nKIND = Row\nModel = f()\n"
    assert code_metrics.type_aliases(ast.parse(text)) == ["Row"]
    modules = [
        Module(MODULES[0].path, name, ast.parse(code), code)
        for name, code in {"a": text, "b": "class Row:\n    pass\n"}.items()
    ]
    assert code_metrics.duplicate_class_names(modules) == ["Row"]


def test_line_kinds_counts_code_comments_and_docstrings() -> None:
    text = '"""One."""\n\n# two\nx = 1  # three\n\n\ndef f():\n    """Four\n\n    five."""\n'
    module = Module(MODULES[0].path, "m", ast.parse(text), text)
    counts = code_metrics.line_kinds(module)
    assert counts["docstring"] == 3
    assert counts["comment"] == 1
    assert counts["trailing comment"] == 1
    assert counts["code"] == 2
    assert code_metrics.function_lengths(module) == [4]
