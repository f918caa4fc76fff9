"""Data flows one way and imports follow it; no name stands twice."""

import ast

import pytest

from docs import code_metrics
from docs.code_metrics import Module, imported_names, is_backward

MODULES = code_metrics.modules()
BESIDE = ("sweep", "tune", "tracking", "train", "evaluate", "main")
LATE = ("wandb", "submitit", "optuna", "plotly")
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


def test_no_import_goes_backward() -> None:
    assert code_metrics.backward_imports(MODULES) == []


def test_no_modules_import_each_other() -> None:
    assert code_metrics.circles(code_metrics.import_graph(MODULES)) == []


def test_no_name_stands_twice() -> None:
    assert code_metrics.duplicate_module_names(MODULES) == []
    assert code_metrics.duplicate_class_names(MODULES) == []


def test_the_flow_of_a_run_knows_nothing_beside_the_chain() -> None:
    [run] = [module for module in MODULES if module.name == "src.run"]
    assert not [name for name in imported_names(run.tree) if {*name.split(".")[1:2]} & {*BESIDE}]


@each_module
def test_heavy_libraries_are_imported_late(module: Module) -> None:
    found = imported_names(module.tree, at_import=True)
    assert not [name for name in found if name.split(".")[0] in LATE]


@each_module
def test_nothing_needs_what_only_measures_or_tests(module: Module) -> None:
    found = imported_names(module.tree)
    assert not [name for name in found if name.split(".")[0] in ("benchmarks", "tests", "docs")]


def test_the_checks_can_fail() -> None:
    late = ast.parse(
        "import os\ndef f():\n    import wandb\nif True:\n    import optuna.x\n"
        "if TYPE_CHECKING:\n    import plotly\n"
    )
    assert imported_names(late, at_import=True) == ["os", "optuna.x"]
    assert imported_names(late) == ["os", "wandb", "optuna.x", "plotly"]
    assert is_backward("src.training.trainer", "src.runs.run_folder")
    assert is_backward("src.data.split", "src.models.create")
    assert is_backward("src.runs.run_folder", "src.run.run")
    assert is_backward("src.training.trainer", "src.sweep.pruner")
    assert not is_backward("src.training.trainer", "src.data.split")
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "d"}}
    assert code_metrics.circles(graph) == [["b", "c"]]


def test_lines_are_counted_by_kind() -> None:
    text = '"""One."""\n\n# two\nx = 1  # three\n\n\ndef f():\n    """Four\n\n    five."""\n'
    module = Module(MODULES[0].path, "m", ast.parse(text), text)
    counts = code_metrics.line_kinds(module)
    assert counts["docstring"] == 3
    assert counts["comment"] == 1
    assert counts["trailing comment"] == 1
    assert counts["code"] == 2
    assert code_metrics.function_lengths(module) == [4]
