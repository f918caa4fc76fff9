"""Content of the report page: numbers, state, escaping, missing data, size."""

import base64
import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.cli.arguments import Parser
from src.cli.config_flags import add_config_flags, config_from
from src.common.paths import SETS_DIR
from src.config import RunConfig
from src.report import export_tables, reproduce_command, table
from src.report.charts import (
    top_k,
)
from src.report.charts.figure import save_all
from src.report.page.render import to_script_json, write_page
from src.report.page.run_details import SpriteSheet
from src.report.page.run_table import axis_limits, row_keys
from src.report.page.sweep_state import STATES, SweepState, state_of_table
from src.report.report_data import ReportData
from src.runs.aggregate import PUBLISHED_COLUMNS, collect
from src.runs.run_folder import State
from src.sweep import sets
from src.sweep.status.page_state import state_of_folders
from tests.report import synthetic_sweep
from tests.report.conftest import FAILED, MISSING
from tests.report.page_data import core_of, runs_of
from tests.report.synthetic_sweep import table_of_grid
from tests.sweep import folders

LIMIT = 8 * 2**20
ALWAYS = ("done", "pruned", "failed", "missing")


def test_page_shows_numbers_of_charts(published: Path, tmp_path: Path) -> None:
    runs = table.read(published)
    states = {"cnn": Counter({State.DONE: 288, State.FAILED: 2})}
    report = ReportData(runs.assign(Full_Modelname="<b>&"), states, k=2)
    save_all(top_k.figures(report), tmp_path)
    text = write_page(report, tmp_path).read_text()
    for top in top_k.rankings(report):
        chart = (tmp_path / f"{top.model}_top_k.svg").read_text()
        for bar in top.runs:
            assert f"{bar.accuracy:.2%}" in chart
            assert f"<b>{bar.accuracy:.2%}</b>" in text
            assert f"{bar.low:.2%} to {bar.high:.2%}" in text
    assert "864 finished runs" in text
    assert "Not shown: 2 failed." in text
    assert "<b>&" not in text, "text of a table must be escaped"


@pytest.fixture(scope="module")
def text(page_file: Path) -> str:
    return page_file.read_text()


def test_page_numbers_match_csv(text: str, sweep: Path, report: ReportData) -> None:
    """Page data, HTML tables, charts, exported tables and the CSV have the same numbers."""
    core, runs, csv = core_of(text), runs_of(text), pd.read_csv(sweep.parent / "clean_runs.csv")
    columns = core["columns"]
    assert len(columns["key"]) == len(set(columns["key"])) == len(csv)
    for measure in core["measures"]:
        column = pd.Series(columns[measure["name"]], dtype=float)
        pd.testing.assert_series_equal(
            column, csv[measure["name"]].astype(float), check_names=False, rtol=0, atol=0
        )
    for setting in core["settings"]:
        labels = [setting["labels"][place] for place in columns[setting["name"]]]
        column = pd.Series(csv[setting["name"]])
        if setting["name"] == "augmentation":
            column = column.map({True: "on", False: "off"})
        assert labels == [f"{v:g}" if isinstance(v, float) else str(v) for v in column]
    of_table = export_tables.top_k_table(report).to_dict("records")
    of_page = [(top["model"], bar) for top in core["rankings"] for bar in top["bars"]]
    of_charts = [(top.model, bar) for top in top_k.rankings(report) for bar in top.runs]
    for one, (model, bar), (_, drawn) in zip(of_table, of_page, of_charts, strict=True):
        assert model == one["model"]
        row = csv[csv["run_id"] == bar["run_id"]].iloc[0]
        accuracy = row["test_accuracy_best_val_acc"]
        assert accuracy == bar["accuracy"] == one["test_accuracy"] == drawn.accuracy
        assert row["best_val_accuracy"] == bar["validation"] == one["best_val_accuracy"]
        assert (bar["low"], bar["high"]) == (one["low_95"], one["high_95"])
        assert bar["low"] == columns["low"][columns["key"].index(bar["run_id"])]
        assert f"<b>{accuracy:.2%}</b></td><td>{bar['low']:.2%} to {bar['high']:.2%}</td>" in text
        confusion = np.array(runs[bar["run_id"]]["confusion"]).reshape(10, 10)
        assert np.trace(confusion) / confusion.sum() == pytest.approx(accuracy, abs=1e-9)
        history = collect_history(sweep, model, bar["run_id"])
        curve = runs[bar["run_id"]]["curves"]
        assert curve["epoch"] == [line["epoch"] for line in history]
        assert curve["val_loss"] == pytest.approx([r["val_loss"] for r in history], rel=1e-4)
    best = csv.loc[
        csv[csv["stop_reason"] != "pruned"].groupby("Modelname").best_val_accuracy.idxmax()
    ]
    assert {bar["run_id"] for bar in core["overall"]} == set(best["run_id"])
    pruned = csv["stop_reason"] == "pruned"
    assert f"{(~pruned).sum()} finished runs and {pruned.sum()} pruned ones" in text
    assert f"{csv['alias_of'].isna().sum()} different trainings" in text
    assert f"Not shown: {FAILED} failed." in text


def collect_history(sweep: Path, model: str, run_id: str) -> list[dict[str, Any]]:
    (path,) = sweep.glob(f"{model}/*-{run_id}/history.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_losses_of_a_diverged_run_are_null_on_the_page(tmp_path: Path) -> None:
    runs = table_of_grid(lambda rate, schedule, augmented: 0.5 + rate)
    runs = runs.assign(val_loss=0.5, train_seconds=60.0, Full_Modelname="run")
    runs.loc[0, ["val_loss", "train_seconds"]] = math.inf
    runs.loc[1, "val_loss"] = math.nan
    core = core_of(write_page(ReportData(runs), tmp_path).read_text())
    assert core["columns"]["val_loss"] == [None, None, *[0.5] * 10]
    assert core["sweep"]["training_hours"] is None
    runs.to_csv(tmp_path / "runs.csv")
    assert table.read(tmp_path / "runs.csv")["val_loss"].max() == 0.5


def test_page_of_one_architecture_shows_no_others(small_report: ReportData, tmp_path: Path) -> None:
    model = small_report.models[1]
    chosen = replace(small_report, model=model, runs_dir=None)
    core = core_of(write_page(chosen, tmp_path).read_text())
    count = (small_report.runs["Modelname"] == model).sum()
    assert core["models"] == [model]
    assert len(core["columns"]["key"]) == len(core["columns"]["in_sweep"]) == count
    assert list(core["sweep"]["cells"]) == [model]
    assert {one["model"] for one in (*core["overall"], *core["rankings"])} == {model}
    assert set(core["best_keys"]) <= set(core["columns"]["key"])


def test_state_counts_every_cell_of_grid(text: str, report: ReportData) -> None:
    state = core_of(text)["sweep"]
    assert sum(state["total"].values()) == 864
    for model, cells in state["cells"].items():
        assert sum(cells.values()) == 288
        rows_of = report.runs[report.runs["Modelname"] == model]
        pruned = rows_of["stop_reason"] == "pruned"
        assert (cells["done"], cells["pruned"]) == ((~pruned).sum(), pruned.sum())
    assert state["total"]["failed"] >= FAILED
    assert state["total"]["missing"] >= MISSING
    assert state["device_hours"] == pytest.approx((672 - MISSING) * 1.0, rel=0.02)
    assert state["wasted_hours"] == pytest.approx(FAILED, rel=0.02)
    kinds = {group["kind"]: group["trainings"] for group in state["failures"]}
    assert kinds == {"out of memory": 3, "non-finite loss": 2, "ValueError": 2}


@pytest.mark.parametrize("passing", ["running", "interrupted"])
def test_cells_of_an_architecture_add_up(report: ReportData, tmp_path: Path, passing: str) -> None:
    cells = {**dict.fromkeys(STATES, 0), "done": 20, passing: 3, "missing": 1}
    state = SweepState(cells={"cnn": cells}, reference="a test")
    page = write_page(report, tmp_path, state).read_text()
    table_text = page[page.index('aria-label="Cells by architecture"') :]
    columns = re.findall(r'<th scope="col">(\w+)</th>', table_text.partition("</thead>")[0])
    assert columns == ["architecture", "cells", *(n for n in STATES if cells[n] or n in ALWAYS)]
    counts = [int(n) for n in re.findall(r"<td>(\d+)</td>", table_text.partition("</tbody>")[0])]
    assert counts[0] == sum(counts[1:]) == 24


def test_page_is_small_and_loads_no_external_resources(text: str) -> None:
    assert len(text.encode()) < LIMIT
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    assert "default-src &#39;none&#39;" in policy[1]
    assert "connect-src &#39;none&#39;" in policy[1]
    assert "unsafe-eval" not in policy[1]
    assert not re.search(r"script-src[^;]*unsafe", policy[1])
    before_plotly = text[: text.index('id="plotly"')]
    assert not re.findall(r"https?://(?!www\.w3\.org)", before_plotly)
    assert not re.findall(r"""<(?:script|img|link|iframe)[^>]+(?:src|href)="(?!data:)""", text)


def test_text_of_files_is_escaped(text: str) -> None:
    assert synthetic_sweep.MARKUP not in text
    assert "&lt;/script&gt;&lt;img src=x" in text, "markup must be shown as text"
    assert to_script_json({"a": synthetic_sweep.MARKUP}).isascii()
    assert "<" not in to_script_json([synthetic_sweep.MARKUP, "<!--", "&amp;"])
    assert json.loads(to_script_json([synthetic_sweep.MARKUP])) == [synthetic_sweep.MARKUP]


def test_reproduce_command_gives_same_run_id(sweep: Path) -> None:
    parser = Parser(prog="main")
    parser.add_argument("--config", default=None)
    add_config_flags(parser)

    def config_of_command(line: str) -> RunConfig:
        words = line.split()
        assert words[:2] == ["python", "src/main.py"]
        return config_from(parser.parse(words[2:]))[0]

    unusual = RunConfig(
        base_dataset_path="synthetic",
        model_type="tinyvgg",
        hidden_units=4,
        batch_norm=False,
        amsgrad=False,
        scheduler="cosine",
        val_split="random",
        seed=7,
    )
    for config in (*synthetic_sweep.configs()[::97], unusual, RunConfig(data_augmentation=True)):
        assert config_of_command(reproduce_command.from_config(config)).id == config.id
    row = {"Modelname": "cnn", "augmentation": 1, "learning_rate": 0.01, "num_epochs": 5.0}
    assert reproduce_command.from_row(row) == "python src/main.py -e 5 -m cnn -a -l 0.01"


def test_page_of_published_table_names_missing_data(report: ReportData, tmp_path: Path) -> None:
    """A table without run folders and own columns, and with markup as a name."""
    published_columns = [name for name in report.runs if name in PUBLISHED_COLUMNS]
    published_table = report.runs[published_columns].assign(Full_Modelname=synthetic_sweep.MARKUP)
    published_table.iloc[:-2].to_csv(tmp_path / "published.csv")
    runs = table.read(tmp_path / "published.csv")
    page = write_page(ReportData(runs), tmp_path / "report").read_text()
    core = core_of(page)
    unknown = " ".join(core["unknown"])
    for words in ("best_val_accuracy", "Learning curves", "train_seconds", "10,000 test images"):
        assert words in unknown
    assert core["rank"]["column"] == "val_accuracy"
    assert core["sweep"]["device_hours"] is None
    assert core["sweep"]["total"]["missing"] == 864 - len(published_table) + 2
    assert synthetic_sweep.MARKUP not in page
    shown = runs_of(page)[core["columns"]["key"][0]]
    assert shown["from_table_only"]
    assert shown["worst"][0]["accuracy"] == min(one["accuracy"] for one in shown["worst"])


def test_page_names_damaged_run_folders(sweep: Path, tmp_path: Path) -> None:
    cells = synthetic_sweep.configs()[:3]
    labels = np.arange(200) % 10
    synthetic_sweep.make(tmp_path / "runs", labels, cells)
    folders = sorted(tmp_path.glob("runs/*/*/"))
    (folders[0] / "history.jsonl").write_text("{")
    (folders[0] / "predictions.npz").write_bytes(b"PK")
    (folders[1] / "history.jsonl").unlink()
    runs = collect(tmp_path / "runs").table
    report = ReportData(runs, runs_dir=tmp_path / "runs")
    page = write_page(report, tmp_path, state_of_folders(tmp_path / "runs")).read_text()
    unknown = " ".join(core_of(page)["unknown"])
    assert "Runs without learning curves: 2" in unknown
    assert unknown.count(str(folders[0] / "history.jsonl")) == 1
    assert "Runs without a confusion matrix: 1" in unknown
    assert "other test images than the run" in unknown


def test_cells_are_counted_against_own_sets_only_if_most_runs_are_theirs(tmp_path: Path) -> None:
    [cell, *_] = sets.read_numbered(SETS_DIR, ["1"])["1"]
    folders.put(tmp_path, cell, accuracy=0.8)
    assert sum(state_of_folders(tmp_path).total.values()) == 864
    for epochs in (3, 4):
        folders.put(tmp_path, replace(cell, num_epochs=epochs), accuracy=0.8)
    assert sum(state_of_folders(tmp_path).total.values()) == 3, "one is also a cell of the grid"


def test_sprite_sheet_stores_each_image_once() -> None:
    sprites = SpriteSheet()
    tile = np.full((32, 32, 3), 7, np.uint8)
    assert [sprites.add("a", number, tile) for number in (5, 6, 5)] == [0, 1, 0]
    assert base64.b64decode(sprites.png())[1:4] == b"PNG"
    assert SpriteSheet().png() == ""


def test_row_keys_are_unique() -> None:
    frame = pd.DataFrame({"run_id": ["a", "a", None], "Full_Modelname": ["n", "n", "n"]})
    assert list(row_keys(frame.assign(Modelname="cnn"))) == ["a", "a~2", "n"]


@pytest.mark.parametrize(
    ("value", "limits"), [(0.5, (0.49, 0.51)), (0.0, (0.0, 0.01)), (1.0, (0.99, 1.0))]
)
def test_axis_of_one_whole_percent_has_a_length(value: float, limits: tuple[float, float]) -> None:
    assert axis_limits([{"low": value, "high": value}]) == limits


def test_missing_cells_are_counted_for_grids_only() -> None:
    runs = pd.DataFrame([vars(one) for one in synthetic_sweep.configs()])
    runs = runs.assign(Modelname=runs["model_type"], augmentation=runs["data_augmentation"])
    assert state_of_table(runs.iloc[:-5]).total["missing"] == 5
    random = np.random.default_rng(0).uniform(size=len(runs))
    assert state_of_table(runs.assign(learning_rate=random)).total["missing"] == 0


def test_seeds_are_no_missing_cells_and_other_settings_are() -> None:
    grid = synthetic_sweep.table_of_grid(lambda *_: 0.5)
    seeds = pd.concat([grid.assign(seed=seed) for seed in (1, 2, 3)], ignore_index=True)
    assert state_of_table(seeds).total["missing"] == 0
    confirmed = seeds.drop(seeds.index[-10:])
    assert state_of_table(confirmed).total["missing"] == 0
    epochs = pd.concat([grid.assign(num_epochs=epochs) for epochs in (5, 9)], ignore_index=True)
    assert state_of_table(epochs.drop(index=0)).total["missing"] == 1
