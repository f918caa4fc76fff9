"""The numbers of the charts, and that charts come of them."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.common.errors import UserError
from src.config import RunConfig
from src.report import charts, frames, numbers, table
from src.report.build import Report
from src.report.chosen import Chosen
from src.report.numbers import SETTINGS
from src.runs.aggregate import PUBLISHED_COLUMNS
from src.runs.run_folder import RunFolder, State
from src.sweep import grid
from tests.conftest import Run


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """864 rows as another sweep would bring them: without our columns, with an index column."""
    random = np.random.default_rng(0)
    rows = []
    for config in grid.expand(grid.REFERENCE):
        row = dict(
            zip(PUBLISHED_COLUMNS, random.uniform(0.5, 0.8, len(PUBLISHED_COLUMNS)), strict=True)
        )
        row |= {"Modelname": config.model_type, "Group": config.model_type}
        row |= {"Full_Modelname": config.name, "augmentation": config.data_augmentation}
        row |= {
            n: getattr(config, n) for n in ("gamma", "learning_rate", "scheduler", "weight_decay")
        }
        rows.append(row)
    path = tmp_path_factory.mktemp("csv") / "theirs.csv"
    pd.DataFrame(rows, columns=PUBLISHED_COLUMNS).to_csv(path)
    return path


def test_top_k_are_the_best_by_the_column(published: Path) -> None:
    runs = table.read(published)
    assert not [name for name in runs if "Unnamed" in str(name)]
    for wanted, column in [(None, "val_accuracy"), ("test_accuracy", "test_accuracy_best_val_acc")]:
        assert table.rank_column(runs, wanted) == column
        top = numbers.top_k(runs, "cnn", 5, column)
        expected = runs[runs["Modelname"] == "cnn"].nlargest(5, column)
        assert [b.accuracy for b in top.bars] == expected["test_accuracy_best_val_acc"].tolist()
        per_class = expected["test_per_class_accuracy_best_val_acc"].tolist()
        assert [b.per_class_accuracy for b in top.bars] == per_class
        assert top.runs == 288
    lowest = numbers.top_k(runs, "vit", 1, table.rank_column(runs, "val_loss")).bars[0]
    assert lowest.row["val_loss"] == runs[runs["Modelname"] == "vit"]["val_loss"].min()


def test_overall_is_the_best_of_each(published: Path) -> None:
    runs = table.read(published)
    bars = numbers.overall(runs, "val_accuracy")
    values = [bar.row["val_accuracy"] for bar in bars]
    assert values == sorted(runs.groupby("Modelname")["val_accuracy"].max(), reverse=True)


def test_interval_is_wilsons() -> None:
    low, high = numbers.interval(0.8697)
    p, n, z = 0.8697, 10_000, 1.959964
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert numbers.interval(1.0, 10)[1] == 1
    assert numbers.interval(0.5, 100)[1] - numbers.interval(0.5, 100)[0] > 0.18


def test_aliases_are_one_run() -> None:
    rows = pd.DataFrame({"Modelname": "cnn", "v": [0.9, 0.9, 0.8], "alias_of": [None, "a", None]})
    assert table.ranked(rows, "v")["v"].tolist() == [0.9, 0.8]


def test_names_tell_only_what_differs() -> None:
    base = {"Modelname": "cnn", "augmentation": True, "scheduler": "step", "gamma": 0.97}
    rows = [{**base, "learning_rate": lr, "weight_decay": 1e-5} for lr in (0.01, 0.0001)]
    shared, labels = numbers.describe(rows)
    plain = shared.replace("\N{NO-BREAK SPACE}", " ")
    assert plain == "augmented, step, wd 1e-05, gamma 0.97"
    assert [label.replace("\N{NO-BREAK SPACE}", " ") for label in labels] == [
        "lr 0.01",
        "lr 0.0001",
    ]
    cosine, _ = numbers.describe([{**rows[0], "scheduler": "cosine"}])
    assert "gamma" not in cosine, "it means nothing there"


@pytest.mark.parametrize(
    ("lows", "start"), [([0.86, 0.85], 0.8), ([0.1, 0.9], 0), ([0.31], 0.25), ([0.999], 0.9)]
)
def test_the_axis_is_cut_at_a_round_number_below_all_bars(lows: list[float], start: float) -> None:
    assert charts.axis_start(lows) == pytest.approx(start)
    assert charts.axis_start(lows) < min(lows)


def test_charts_show_the_numbers(published: Path, tmp_path: Path) -> None:
    top = numbers.top_k(table.read(published), "resnet", 5, "val_accuracy")
    png, svg = charts.save(charts.top_k(top, "a note"), tmp_path / "top_k")
    text = svg.read_text()
    for bar in top.bars:
        assert f"{bar.accuracy:.2%}" in text
        assert f"{bar.per_class_accuracy:.2%}" in text
    assert "resnet: the 5 best of 288 runs" in text
    assert "a note" in text
    picture = np.asarray(Image.open(png).convert("L"))
    assert picture.shape[1] > 1000
    assert picture.std() > 20
    first = svg.read_bytes(), png.read_bytes()
    charts.save(charts.top_k(top, "a note"), tmp_path / "top_k")
    assert (svg.read_bytes(), png.read_bytes()) == first


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not a CSV"),
        ("a,b\n1,2\n", "no column Modelname"),
        (",".join(table.NEEDED) + "\n", "no runs in it"),
        (
            ",".join(table.NEEDED) + "\n" + ",".join("x" * 8) + "\n",
            "holds something else than numbers",
        ),
    ],
)
def test_a_wrong_csv_is_one_line(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=part):
        table.read(tmp_path / "x.csv")


def test_the_page_shows_the_numbers_of_the_charts(published: Path, tmp_path: Path) -> None:
    runs = table.read(published)
    states = {"cnn": Counter({State.DONE: 288, State.FAILED: 2})}
    report = Report(runs.assign(Full_Modelname="<b>&"), states, tmp_path, k=2)
    text = report.everything()[-1].read_text()
    for top in report.top_k():
        chart = (tmp_path / f"{top.model}_top_k.svg").read_text()
        for bar in top.bars:
            assert f"{bar.accuracy:.2%}" in chart
            assert f"<b>{bar.accuracy:.2%}</b>" in text
            assert f"{bar.low:.2%} to {bar.high:.2%}" in text
    assert "864 finished runs" in text
    assert "Not shown: 2 failed." in text
    assert "<b>&" not in text, "text of a table is no markup"


def test_tables_with_gaps_are_read_as_far_as_they_go(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = pd.read_csv(published)
    path = tmp_path / "x.csv"
    theirs.assign(test_accuracy_best_val_acc=86.9).to_csv(path)
    with pytest.raises(UserError, match="expected shares from 0 to 1"):
        table.read(path)
    theirs.drop(columns="val_accuracy").to_csv(path)
    assert table.rank_column(table.read(path), None) == "test_accuracy_best_val_acc"
    gaps = theirs.copy()
    gaps.loc[gaps["Modelname"] == "cnn", "test_accuracy_best_val_acc"] = np.nan
    gaps.to_csv(path)
    assert set(table.read(path)["Modelname"]) == {"resnet", "vit"}
    assert "left out 288 rows" in capsys.readouterr().err


def test_commands(command: Run, published: Path, tmp_path: Path) -> None:
    report = ("python", "-m", "src.report")
    done = command(*report, "--csv", published, "--out", tmp_path / "r")
    written = {path.name for path in (tmp_path / "r").iterdir()}
    names = [f"{m}_{what}" for m in ("cnn", "resnet", "vit") for what in ("top_k", "pairs")]
    names += ["overall", "effects", "importance", "parallel", "scatter"]
    drawn = {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert written == drawn | {"report.html", "findings.md", "tables"}
    assert done.stdout.splitlines()[-1].endswith("report.html")
    done = command(
        *report, "top-k", "table", "--csv", published, "--model", "vit", "-k", 3, "--json"
    )
    assert [row["rank"] for row in json.loads(done.stdout)] == [1, 2, 3]
    mixed = pd.read_csv(published).assign(test_images=np.nan, num_epochs=np.nan)
    mixed.loc[0, ["test_images", "num_epochs"]] = [10_000, 80]
    mixed.assign(best_val_accuracy=np.nan).to_csv(tmp_path / "mixed.csv")
    command(*report, "overall", "--csv", tmp_path / "mixed.csv", "--out", tmp_path / "r")
    for words, part in [
        (("--json",), "--json: only `top-k table`"),
        (("graphs",), "unknown report 'graphs'"),
        (("--model", "lenet"), "expected one of resnet, cnn, vit"),
        (("--rank-by", "best"), "--rank-by 'best'"),
        (("-k", "0"), "whole number above 0"),
        (("--csv", "none.csv"), "No such file"),
    ]:
        done = command(
            *report, *words, *(() if "--csv" in words else ("--csv", published)), check=2
        )
        assert re.match(r"error: .*\n$", done.stderr)
        assert part in done.stderr


def test_frames_of_a_published_table(published: Path, tmp_path: Path) -> None:
    """It tells no run ids, devices or times."""
    runs = table.read(published)
    report = Report(runs, {}, tmp_path, k=2)
    best = frames.overall(report.overall())
    assert best["test"].tolist() == [bar.accuracy for bar in report.overall()]
    assert best["run"].isna().all()
    apart = frames.differences(report.overall())
    assert list(zip(apart["better"], apart["other"], strict=True)) == list(
        itertools.combinations(best.sort_values("test", ascending=False).index, 2)
    )
    assert (apart["low 95 %"] < apart["difference"]).all()
    assert ((apart["low 95 %"] <= 0) == apart["within noise"]).all()
    for top in report.top_k():
        verdicts = frames.top(top)["which is"]
        assert set(verdicts) <= {"the most accurate", "within noise", "beyond noise"}
        assert (verdicts == "the most accurate").sum() == 1
    origin = frames.origin(runs)
    assert list(origin.loc["rows"]) == [288] * 3
    assert set(origin.loc["device"]) == set(origin.loc["device hours"]) == {""}
    config = RunConfig(base_dataset_path="synthetic")
    run = Chosen(RunFolder(tmp_path), config)
    with pytest.raises(UserError, match="not in the table"):
        frames.side_by_side([run], runs, report.column)


def test_main_effects_are_means_over_all_other_settings(published: Path, tmp_path: Path) -> None:
    runs = table.read(published).assign(alias_of=None, stop_reason="completed")
    runs.loc[runs["scheduler"] == "cosine", "alias_of"] = "another"  # counts all the same
    runs.loc[runs.index[::7], "stop_reason"] = "pruned"
    told = Report(runs, {}, tmp_path).effects_table().set_index(["setting", "value", "model"])
    left = runs[runs["stop_reason"] != "pruned"]
    for name in ("scheduler", "learning_rate"):
        groups = left.groupby([name, "Modelname"])["val_accuracy"]
        for (value, model), values in groups:
            label = f"{value:g}" if isinstance(value, float) else str(value)
            effect = told.xs((name, label, str(model)))
            assert effect["runs"] == len(values)
            found = (effect["mean_val_accuracy"], effect["best_val_accuracy"])
            assert found == pytest.approx((values.mean(), values.max()))
    assert set(told.index.get_level_values("setting")) == set(SETTINGS)
    by_loss = Report(runs, {}, tmp_path, rank_by="val_loss").effects_table()
    lowest = by_loss.set_index(["setting", "value", "model"])["best_val_loss"]
    assert lowest.loc["augmentation", "on", "vit"] == pytest.approx(
        left[(left["Modelname"] == "vit") & left["augmentation"]]["val_loss"].min()
    )
