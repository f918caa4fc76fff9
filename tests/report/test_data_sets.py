"""Runs on several data sets: kept apart in every ranking, compared in one chart; 100 classes."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.common.errors import ExitStatus
from src.config import RunConfig, field_names
from src.report import reproduce_command, table
from src.report.__main__ import main
from src.report.charts import data_sets, overall
from src.report.charts.data_sets import best_by_data_set
from src.report.charts.top_k import rankings
from src.report.page.render import write_page
from src.report.report_data import ReportData, TableOptions, load_report
from src.report.run_analysis.run_selection import best_runs
from src.report.text_summary import sentences_by_model
from src.run import run
from src.runs.run_folder import RunFolder

BASE = RunConfig(
    base_dataset_path="synthetic",
    model_type="cifar10net_3",
    num_epochs=1,
    batch_size=50,
    max_images=100,
    learning_rate=0.01,
)
DATA = ("cifar10", "cifar100", "mnist")
CIFAR100 = "cifar10net_3 on synthetic-cifar100"


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train an architecture on three data sets, with two learning rates, and another on one."""
    folder = tmp_path_factory.mktemp("data_sets")
    configs = [replace(BASE, dataset=name, learning_rate=r) for name in DATA for r in (0.01, 0.001)]
    run([*configs, replace(BASE, model_type="cifar10net_2", dataset="cifar100")], folder)
    return folder


@pytest.fixture(scope="module")
def report(runs_dir: Path) -> ReportData:
    csv = runs_dir.parent / "data_sets.csv"
    assert main(["aggregate", "--runs", str(runs_dir), "--csv", str(csv), "-q"]) == ExitStatus.DONE
    return load_report(TableOptions(csv=csv, runs_dir=runs_dir, quiet=True))


def test_rankings_never_mix_data_sets(report: ReportData, runs_dir: Path) -> None:
    assert report.models == [
        *("cifar10net_3", "cifar10net_2 on synthetic-cifar100", CIFAR100),
        "cifar10net_3 on synthetic-mnist",
    ]
    for top in rankings(report):
        assert len({one.row["dataset"] for one in top.runs}) == 1
    assert {state for state in report.states} == set(report.models)
    best = best_runs(runs_dir, "cifar10net_3")
    assert {one.config.dataset for one in best} == set(DATA)
    assert len(best) == 3
    assert table.architectures(report.runs, CIFAR100) == [CIFAR100]
    charts = dict(overall.figures(report))
    assert set(charts) == {
        *("overall_synthetic", "overall_synthetic-cifar100", "overall_synthetic-mnist")
    }
    data = "synthetic data, the stand-in for CIFAR-100 and the stand-in for MNIST"
    assert f"different trainings on {data}, ranked" in report.summary()


def test_architecture_is_compared_across_data_sets(report: ReportData) -> None:
    rows = best_by_data_set(report.configurations, report.rank_column)
    found = {name: set(best) for name, best in rows.items()}
    assert found == {
        "synthetic": {"cifar10net_3"},
        "synthetic-cifar100": {"cifar10net_3", "cifar10net_2"},
        "synthetic-mnist": {"cifar10net_3"},
    }
    of_table = report.runs[report.runs["dataset"] == "synthetic-mnist"]
    mnist = rows["synthetic-mnist"]["cifar10net_3"]
    best = of_table.sort_values("best_val_accuracy", ascending=False, kind="stable").iloc[0]
    assert mnist.accuracy == best["test_accuracy_best_val_acc"]
    figure = data_sets.figure(report)
    assert figure
    texts = {text.get_text() for text in figure.axes[0].get_yticklabels()}
    assert texts == {"synthetic data", "the stand-in for CIFAR-100", "the stand-in for MNIST"}


def test_runs_of_an_unknown_data_set_are_left_out(report: ReportData) -> None:
    """As in a table to which rows of an older table, without this column, were appended."""
    older = report.configurations.assign(dataset=np.nan, Modelname="older")
    both = pd.concat([report.configurations, older], ignore_index=True)
    rows = best_by_data_set(both, report.rank_column)
    assert {name: set(best) for name, best in rows.items()} == {
        name: set(best)
        for name, best in best_by_data_set(report.configurations, report.rank_column).items()
    }


def test_findings_and_summary_are_of_the_data_of_each_run(
    report: ReportData, runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_model = sentences_by_model(report)
    for model, title in (
        (CIFAR100, "the stand-in for CIFAR-100"),
        ("cifar10net_3 on synthetic-mnist", "the stand-in for MNIST"),
        ("cifar10net_3", "synthetic data"),
    ):
        [best] = [line for line in by_model[model] if "Its accuracy" in line]
        assert f"% on {title} (" in best
    main(["summary", "--runs", str(runs_dir), "--model", "cifar10net_3", "--json"])
    one = ["--run", best_runs(runs_dir, CIFAR100)[0].config.id]
    main(["summary", "--runs", str(runs_dir), *one, "--json"])
    of_default, of_hundred = (json.loads(text) for text in _texts(capsys.readouterr().out))
    assert of_hundred[0]["layers"][-1]["output_shape"] == [1, 100]
    assert of_default[0]["layers"][-1]["output_shape"] == [1, 10]


def _texts(output: str) -> list[str]:
    """Several JSON lists that were printed one after the other."""
    first, _, second = output.partition("\n]\n")
    return [first + "\n]", second]


def test_one_data_set_has_no_such_chart(
    report: ReportData, tmp_path: Path, expect_bad_input: Callable[..., str]
) -> None:
    alone = report.runs[report.runs["dataset"] == "synthetic-cifar100"]
    assert data_sets.figure(replace(report, runs=alone)) is None
    plain = alone.drop(columns=["architecture"]).assign(Modelname=alone["architecture"])
    plain.to_csv(tmp_path / "one.csv", index=False)
    error = expect_bad_input(main, "data-sets", "--csv", tmp_path / "one.csv")
    assert "the table has one data set" in error


def test_table_has_columns_of_further_classes(runs_dir: Path, report: ReportData) -> None:
    columns = list(pd.read_csv(runs_dir.parent / "data_sets.csv").columns)
    place = columns.index("dataset")
    assert columns[place - 1] == "data_digest"
    further = columns[place + 1 :]
    assert "test_per_class_accuracy_aquarium_fish_best_val_acc" in further
    of_classes = [name for name in further if name.startswith("test_per_class_accuracy_")]
    assert further[: len(of_classes)] == of_classes
    assert set(further) - {*of_classes} <= set(field_names())  # settings
    row = report.runs[report.runs[table.MODEL] == CIFAR100].iloc[0].to_dict()
    filled = {str(name): value for name, value in row.items() if not pd.isna(value)}
    assert "-m cifar10net_3 " in reproduce_command.from_row(filled) + " "


def test_confusion_matrix_of_hundred_classes_is_large(runs_dir: Path, tmp_path: Path) -> None:
    [one] = [one for one in best_runs(runs_dir, CIFAR100)]
    words = ["confusion", "--runs", str(runs_dir), "--run", one.config.id, "--out", str(tmp_path)]
    assert main(words) == ExitStatus.DONE
    [path] = tmp_path.glob("*_confusion.png")
    with Image.open(path) as picture:
        assert min(picture.size) > 1800, "names of 8 points need an eighth of an inch each"


def put_copies(original: RunFolder, runs_dir: Path, count: int) -> None:
    """Put copies of a run there that differ in their seed."""
    config = RunConfig(**(original.config() or {}))
    result = json.loads((original.path / "result.json").read_text())
    for seed in range(1, count + 1):
        other = replace(config, seed=seed)
        folder = RunFolder.of(other, runs_dir)
        folder.register(other)
        os.link(original.path / "predictions.npz", folder.path / "predictions.npz")
        shutil.copy(original.path / "history.jsonl", folder.path)
        (folder.path / "result.json").write_text(json.dumps({**result, "run_id": other.id}))


def page_size(runs_dir: Path, folder: Path) -> int:
    csv = folder / "table.csv"
    words = ["--runs", str(runs_dir), "--csv", str(csv)]
    assert main(["aggregate", *words, "-q"]) == ExitStatus.DONE
    report = load_report(TableOptions(csv=csv, runs_dir=runs_dir, quiet=True))
    return write_page(report, folder).stat().st_size


def test_page_of_864_runs_with_hundred_classes_is_under_8_mb(
    runs_dir: Path, tmp_path: Path
) -> None:
    """What a run adds is measured with 40 of them."""
    [best] = best_runs(runs_dir, CIFAR100)
    sizes = []
    for count in (10, 50):
        there = tmp_path / str(count)
        put_copies(best.folder, there, count)
        sizes.append(page_size(there, tmp_path))
    small, large = sizes
    each = (large - small) / 40
    assert small + 854 * each < 8e6
