"""The notebooks, executed on real run folders: no error, no warning, the numbers of the files."""

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
from src.data.dataset import CLASSES
from src.report import table
from src.report.run_analysis.run_selection import best_runs
from src.report.statistics import wilson_interval
from src.runs.aggregate import collect, write_csv
from src.runs.run_folder import RunFolder, all_runs

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
BEST = "best_val_acc"
WARNINGS = "default,ignore:For consistency across implementations"
"""All are shown, so that none is caught unseen; but for that of a kernel which shuts down."""


@pytest.fixture(autouse=True)
def only_what_is_given(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels write to no folder of the developer, whose variables tell them nothing."""
    for name in [name for name in os.environ if name.startswith(("SWEEP_", "CIFAR10_DIR"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONWARNINGS", WARNINGS)
    with tempfile.TemporaryDirectory() as folder:  # a short name: sockets lie in it
        monkeypatch.setenv("IPYTHONDIR", folder)
        for name in ("CONFIG", "DATA", "RUNTIME"):
            monkeypatch.setenv(f"JUPYTER_{name}_DIR", folder)
        yield


class Executed:
    """What the cells of a notebook printed and drew, by their ids."""

    def __init__(self, name: str, started_in: Path) -> None:
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        there = {"metadata": {"path": str(started_in)}}
        sockets = {"transport": "ipc", "ip": os.environ["IPYTHONDIR"] + "/kernel"}  # not ports
        config = Config({"KernelManager": sockets})
        NotebookClient(notebook, timeout=300, resources=there, config=config).execute()
        self.outputs: dict[str, list[Any]] = {
            cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"
        }
        for cell, outputs in self.outputs.items():
            said = [one.text for one in outputs if one.get("name") == "stderr"]
            assert not said, f"{cell}: {said}"

    def text(self, cell: str) -> str:
        """All that a cell printed, and its tables as text."""
        texts = (one.get("text") or one.data.get("text/plain", "") for one in self.outputs[cell])
        return "\n".join(texts)

    def row(self, cell: str, name: str) -> list[str]:
        """The words after a name at the beginning of a line, or after a heading of the rows."""
        found = re.findall(rf"^(?:\w+)? *{re.escape(name)} {{2,}}(.*)$", self.text(cell), re.M)
        assert len(found) == 1, (name, self.text(cell))
        return str(found[0]).split()

    def pictures(self, cell: str) -> int:
        """How often a cell shows a figure."""
        return sum("image/png" in one.get("data", {}) for one in self.outputs[cell])


def as_shown(values: Sequence[float]) -> list[str]:
    return [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]


def check_compared(done: Executed, runs: Sequence[RunFolder]) -> None:
    """The numbers of these runs, in this order, and their figures, are there."""
    results = [run.result() or {} for run in runs]
    titles = [f"{run.path.parent.name} {run.path.name[-10:]}" for run in runs]
    assert done.text("runs") == str(titles)
    for words, name in [
        ("best validation accuracy", "best_val_accuracy"),
        ("test accuracy", f"test_accuracy_{BEST}"),
        ("test loss", f"test_loss_{BEST}"),
        ("training loss, last epoch", "train_loss"),
        ("epochs run", "epochs_run"),
    ]:
        assert done.row("numbers", words) == as_shown([result[name] for result in results])
    around = [wilson_interval(result[f"test_accuracy_{BEST}"], 300) for result in results]
    for words, end in (("low", 0), ("high", 1)):
        ends = as_shown([one[end] for one in around])
        assert done.row("numbers", f"test accuracy, {words} 95 %") == ends
    assert done.row("numbers", "max images") == ["300"] * len(runs)
    accuracies = []
    for name in CLASSES:
        told = [result[f"test_per_class_accuracy_{name}_{BEST}"] for result in results]
        shown = done.row("classes", name)
        assert [word for word in shown if word in as_shown(told)], (shown, told)
        assert float(shown[0]) == pytest.approx(told[0], abs=1e-4)
        accuracies.append((done.text("classes").index(f"\n{name} "), told[0]))
    in_order = [accuracy for _, accuracy in sorted(accuracies)]
    assert in_order == sorted(in_order), "the worst class first"
    assert done.pictures("curves") == 1
    assert done.pictures("confusion") == done.pictures("mistakes") == len(runs)


def test_the_best_runs_are_compared(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_RUNS", str(trained))
    best = best_runs(trained, None, None, 1)
    assert len(best) == 2
    check_compared(Executed("compare_runs", ROOT), [run.folder for run in best])


def test_chosen_runs_are_compared_with_the_numbers_of_a_table(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = list(all_runs(trained, "cifar10net"))[::-1]
    write_csv(collect(trained).table, tmp_path / "runs.csv")
    monkeypatch.setenv("SWEEP_RUNS", str(trained))
    monkeypatch.setenv("SWEEP_CSV", str(tmp_path / "runs.csv"))
    monkeypatch.setenv("SWEEP_WHICH", " ".join(run.path.name[-10:] for run in runs))
    done = Executed("compare_runs", FOLDER)
    check_compared(done, runs)
    told = [(run.config() or {})["normalization"] for run in runs]
    assert done.row("numbers", "normalization") == told


def test_final_results_are_those_of_the_table(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(collect(trained).table, tmp_path / "runs.csv")
    monkeypatch.setenv("SWEEP_CSV", str(tmp_path / "runs.csv"))
    monkeypatch.setenv("SWEEP_K", "1")
    check_final(Executed("final_results", FOLDER), tmp_path / "runs.csv", k=1)


def test_final_results_of_the_table_that_is_there() -> None:
    done = Executed("final_results", ROOT)
    check_final(done, CSV_FILE, k=5)


def varies(runs: pd.DataFrame) -> bool:
    """Whether there are few enough different rates to average over."""
    return 1 < runs["learning_rate"].nunique() <= 12


def check_final(done: Executed, csv: Path, k: int) -> None:
    """The numbers of the table are there, and its figures."""
    runs, models = table.read(csv), len(pd.read_csv(csv)["Modelname"].unique())
    assert f"{len(runs)} finished runs" in done.text("summary")
    column = table.rank_column(runs, None)
    top = table.rank(runs, column).groupby("Modelname").head(k)
    for cell, rows in (("overall", top.drop_duplicates("Modelname")), ("top", top)):
        for row in rows.to_dict("records"):
            line = next(line for line in done.text(cell).splitlines() if row["run_id"] in line)
            accuracy, images = row[f"test_accuracy_{BEST}"], int(row["test_images"])
            shown = [row[column], accuracy, *wilson_interval(accuracy, images)]
            assert as_shown(shown) == line.partition(row["run_id"])[2].split()[:4]
    assert done.text("top").count("the most accurate") == models
    noise = done.text("noise").splitlines()
    assert len(noise) == 1 + models * (models - 1) // 2
    finished = runs[~table.is_pruned(runs)]
    enough = finished[finished.groupby("Modelname")["Modelname"].transform("size") >= 4]
    for _, rows in enough.groupby("Modelname"):
        for _, part in rows.groupby("learning_rate") if varies(rows) else ():
            effect = as_shown([len(part), float(part[column].mean()), float(part[column].max())])
            assert effect in [line.split()[-3:] for line in done.text("effects").splitlines()]
    for name in map(str, top["Modelname"].unique()):
        assert f"## {name}\n" in done.outputs["findings"][0]["data"]["text/markdown"]
    for model, rows in runs.groupby("Modelname"):
        share = re.search(rf"^{model} +{len(rows)} .*$", done.text("importance"), re.M)
        assert share, done.text("importance")
        assert len(rows) >= 8 or f"only {len(rows)} finished runs" in share[0]
    of_model = runs.groupby("Modelname", sort=False)
    assert done.row("origin", "rows") == as_shown(of_model.size().tolist())
    assert done.row("origin", "num epochs") == as_shown(of_model["num_epochs"].max().tolist())
    assert str(runs["device"].iloc[0]) in done.text("origin")
    assert done.pictures("overall") == 1
    assert done.pictures("effects") == (len(enough) > 0)
    assert done.pictures("top") == models


def test_they_are_kept_without_outputs_and_explain_each_cell() -> None:
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
