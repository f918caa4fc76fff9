"""The notebooks run without warnings, and show the numbers of run folders and tables."""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from src.common.paths import CSV_FILE, ROOT
from src.data.spec import CLASSES
from src.report import table
from src.report.report_data import ReportData
from src.report.run_analysis.run_selection import best_runs
from src.report.statistics import wilson_interval
from src.runs.aggregate import collect, write_csv
from src.runs.run_folder import RunFolder, all_runs

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
BEST = "best_val_acc"
WARNINGS = "default,ignore:For consistency across implementations"
"""Show all warnings, except one that kernels print at shutdown."""


@pytest.fixture(autouse=True)
def isolated_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Isolate kernels from the developer's folders and environment variables."""
    for name in [name for name in os.environ if name.startswith(("SWEEP_", "CIFAR10_DIR"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONWARNINGS", WARNINGS)
    with tempfile.TemporaryDirectory() as folder:  # short, since socket paths have a maximum length
        monkeypatch.setenv("IPYTHONDIR", folder)
        for name in ("CONFIG", "DATA", "RUNTIME"):
            monkeypatch.setenv(f"JUPYTER_{name}_DIR", folder)
        yield


class ExecutedNotebook:
    """Execute a notebook and keep the outputs of its cells by cell id."""

    def __init__(self, name: str, started_in: Path) -> None:
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        resources = {"metadata": {"path": str(started_in)}}
        sockets = {"transport": "ipc", "ip": os.environ["IPYTHONDIR"] + "/kernel"}  # not ports
        config = Config({"KernelManager": sockets})
        NotebookClient(notebook, timeout=300, resources=resources, config=config).execute()
        self.outputs: dict[str, list[Any]] = {
            cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"
        }
        for cell, outputs in self.outputs.items():
            stderr = [one.text for one in outputs if one.get("name") == "stderr"]
            assert not stderr, f"{cell}: {stderr}"

    def text(self, cell: str) -> str:
        """Return the printed output of a cell, and its tables as text."""
        texts = (one.get("text") or one.data.get("text/plain", "") for one in self.outputs[cell])
        return "\n".join(texts)

    def row(self, cell: str, name: str) -> list[str]:
        """Return the words after a row's name, in each block of a wide table."""
        found = re.findall(rf"^(?:\w+)? *{re.escape(name)} {{2,}}(.*)$", self.text(cell), re.M)
        blocks = 1 + len(re.findall(r" \\$", self.text(cell), re.M))
        assert len(found) == blocks, (name, self.text(cell))
        return " ".join(found).split()

    def figures(self, cell: str) -> int:
        """Return the number of figures that a cell shows."""
        return sum("image/png" in one.get("data", {}) for one in self.outputs[cell])


def formatted(values: Sequence[float]) -> list[str]:
    return [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]


def check_compared(notebook: ExecutedNotebook, runs: Sequence[RunFolder]) -> None:
    """Check that the notebook shows the numbers and figures of these runs in order."""
    results = [run.result() or {} for run in runs]
    titles = [f"{run.path.parent.name} {run.path.name[-10:]}" for run in runs]
    assert notebook.text("runs") == str(titles)
    for words, name in [
        ("best validation accuracy", "best_val_accuracy"),
        ("test accuracy", f"test_accuracy_{BEST}"),
        ("test loss", f"test_loss_{BEST}"),
        ("training loss, last epoch", "train_loss"),
        ("epochs run", "epochs_run"),
    ]:
        assert notebook.row("numbers", words) == formatted([result[name] for result in results])
    intervals = [wilson_interval(result[f"test_accuracy_{BEST}"], 300) for result in results]
    for words, end in (("low", 0), ("high", 1)):
        ends = formatted([one[end] for one in intervals])
        assert notebook.row("numbers", f"test accuracy, {words} 95 %") == ends
    assert notebook.row("numbers", "max images") == ["300"] * len(runs)
    accuracies = []
    for name in CLASSES:
        expected = [result[f"test_per_class_accuracy_{name}_{BEST}"] for result in results]
        shown = notebook.row("classes", name)
        assert [word for word in shown if word in formatted(expected)], (shown, expected)
        assert float(shown[0]) == pytest.approx(expected[0], abs=1e-4)
        accuracies.append((notebook.text("classes").index(f"\n{name} "), expected[0]))
    in_order = [accuracy for _, accuracy in sorted(accuracies)]
    assert in_order == sorted(in_order), "the worst class must come first"
    assert notebook.figures("curves") == 1
    assert notebook.figures("confusion") == notebook.figures("mistakes") == len(runs)


def test_compare_runs_notebook_shows_best_runs(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_RUNS", str(trained))
    best = best_runs(trained, None, None, 1)
    assert len(best) == 2
    check_compared(ExecutedNotebook("compare_runs", ROOT), [run.folder for run in best])


def test_compare_runs_notebook_shows_selected_runs(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = list(all_runs(trained, "cifar10net"))[::-1]
    write_csv(collect(trained).table, tmp_path / "runs.csv")
    monkeypatch.setenv("SWEEP_RUNS", str(trained))
    monkeypatch.setenv("SWEEP_CSV", str(tmp_path / "runs.csv"))
    monkeypatch.setenv("SWEEP_WHICH", " ".join(run.path.name[-10:] for run in runs))
    notebook = ExecutedNotebook("compare_runs", FOLDER)
    check_compared(notebook, runs)
    expected = [(run.config() or {})["normalization"] for run in runs]
    assert notebook.row("numbers", "normalization") == expected


def test_final_results_notebook_matches_given_table(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(collect(trained).table, tmp_path / "runs.csv")
    monkeypatch.setenv("SWEEP_CSV", str(tmp_path / "runs.csv"))
    monkeypatch.setenv("SWEEP_K", "1")
    check_final(ExecutedNotebook("final_results", FOLDER), tmp_path / "runs.csv", k=1)


def test_final_results_notebook_matches_committed_table() -> None:
    notebook = ExecutedNotebook("final_results", ROOT)
    check_final(notebook, CSV_FILE, k=5)


def varies(runs: pd.DataFrame) -> bool:
    """Return whether the learning rate has 2 to 12 different values."""
    return 1 < runs["learning_rate"].nunique() <= 12


def check_final(notebook: ExecutedNotebook, csv: Path, k: int) -> None:
    """Check that the notebook shows the numbers of the table and its figures."""
    runs, models = table.read(csv), len(pd.read_csv(csv)["Modelname"].unique())
    report = ReportData(runs)
    assert f"{len(runs)} finished runs" in notebook.text("summary")
    column = table.rank_column(runs, None)
    top = table.rank(report.configurations, column).groupby("Modelname").head(k)
    for cell, rows in (("overall", top.drop_duplicates("Modelname")), ("top", top)):
        for row in rows.to_dict("records"):
            line = next(line for line in notebook.text(cell).splitlines() if row["run_id"] in line)
            accuracy, images = row[f"test_accuracy_{BEST}"], int(row["test_images"])
            interval = row["test_low"], row["test_high"]
            if row["seeds"] == 1:
                interval = wilson_interval(accuracy, images)
            shown = [row[column], accuracy, *interval]
            assert formatted(shown) == line.partition(row["run_id"])[2].split()[:4]
    assert notebook.text("top").count("the most accurate") == models
    noise = notebook.text("noise").splitlines()
    assert len(noise) == 1 + models * (models - 1) // 2
    finished = report.averaged[~table.is_pruned(report.averaged)]
    models_with_enough_runs = finished[
        finished.groupby("Modelname")["Modelname"].transform("size") >= 4
    ]
    for _, rows in models_with_enough_runs.groupby("Modelname"):
        for _, part in rows.groupby("learning_rate") if varies(rows) else ():
            effect = formatted([len(part), float(part[column].mean()), float(part[column].max())])
            assert effect in [line.split()[-7:-4] for line in notebook.text("effects").splitlines()]
    for name in map(str, top["Modelname"].unique()):
        assert f"## {name}\n" in notebook.outputs["findings"][0]["data"]["text/markdown"]
    for model, rows in report.averaged.groupby("Modelname"):
        share = re.search(rf"^{model} +{len(rows)} .*$", notebook.text("importance"), re.M)
        assert share, notebook.text("importance")
        assert len(rows) >= 8 or f"only {len(rows)} finished run" in share[0]
    of_model = runs.groupby("Modelname", sort=False)
    assert notebook.row("origin", "rows") == formatted(of_model.size().tolist())
    epochs = [", ".join(map(str, rows["num_epochs"].unique())) for _, rows in of_model]
    assert notebook.row("origin", "num epochs") == " ".join(epochs).split()
    assert str(runs["device"].iloc[0]) in notebook.text("origin")
    assert notebook.figures("overall") == 1
    assert notebook.figures("effects") == (len(models_with_enough_runs) > 0)
    assert notebook.figures("top") == models


def test_notebooks_have_no_outputs_and_text_before_each_cell() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["compare_runs", "final_results"]
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        for before, cell in zip([None, *notebook.cells], notebook.cells, strict=False):
            if cell.cell_type == "code":
                assert not cell.outputs
                assert cell.execution_count is None
                assert before is not None
                assert before.cell_type == "markdown"
        assert path.stat().st_size < 10_000
