"""What is in the report page: the same numbers everywhere, and nothing but them."""

import base64
import gzip
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.cli.arguments import Parser
from src.cli.config_flags import add_config_flags, config_from
from src.common.errors import UserError
from src.config import RunConfig
from src.report import command, commands, importance, numbers, settings, table
from src.report.__main__ import main
from src.report.build import Report
from src.report.page import details, document, rows, standing
from src.runs.aggregate import collect
from src.sweep import grid
from tests.report import made_up
from tests.report.conftest import FAILED, MISSING

LIMIT = 8 * 2**20


def part(page: str, name: str) -> str:
    """The text of the script element with this id."""
    found = re.search(rf'<script type="[a-z/]+" id="{name}">(.*?)</script>', page, flags=re.DOTALL)
    assert found
    return found[1]


def core_of(page: str) -> dict[str, Any]:
    core: dict[str, Any] = json.loads(part(page, "data"))
    return core


def runs_of(page: str) -> dict[str, Any]:
    runs: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(part(page, "packed"))))
    return runs


@pytest.fixture(scope="module")
def text(page_file: Path) -> str:
    return page_file.read_text()


def test_every_number_is_that_of_the_csv(text: str, sweep: Path, report: Report) -> None:
    """In the page's data, its tables, the numbers of the charts, the summary and the CSV."""
    core, runs, csv = core_of(text), runs_of(text), pd.read_csv(sweep.parent / "clean_runs.csv")
    columns = core["columns"]
    assert len(columns["key"]) == len(set(columns["key"])) == len(csv)
    for measure in core["measures"]:
        told = pd.Series(columns[measure["name"]], dtype=float)
        pd.testing.assert_series_equal(
            told, csv[measure["name"]].astype(float), check_names=False, rtol=0, atol=0
        )
    for setting in core["settings"]:
        labels = [setting["labels"][place] for place in columns[setting["name"]]]
        told = pd.Series(csv[setting["name"]])
        if setting["name"] == "augmentation":
            told = told.map({True: "on", False: "off"})
        assert labels == [f"{v:g}" if isinstance(v, float) else str(v) for v in told]
    of_table = report.top_k_table().to_dict("records")
    of_page = [(top["model"], bar) for top in core["tops"] for bar in top["bars"]]
    of_charts = [(top.model, bar) for top in report.top_k() for bar in top.bars]
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


def test_the_state_counts_every_cell_of_the_grid(text: str, report: Report) -> None:
    stands = core_of(text)["standing"]
    assert sum(stands["total"].values()) == 864
    for model, cells in stands["cells"].items():
        assert sum(cells.values()) == 288
        rows_of = report.runs[report.runs["Modelname"] == model]
        pruned = rows_of["stop_reason"] == "pruned"
        assert (cells["done"], cells["pruned"]) == ((~pruned).sum(), pruned.sum())
    assert stands["total"]["failed"] >= FAILED
    assert stands["total"]["missing"] >= MISSING
    assert stands["device_hours"] == pytest.approx((672 - MISSING) * 1.0, rel=0.02)
    assert stands["wasted_hours"] == pytest.approx(FAILED, rel=0.02)
    kinds = {group["kind"]: group["trainings"] for group in stands["failures"]}
    assert kinds == {"out of memory": 3, "non-finite loss": 2, "ValueError": 2}


def test_it_is_small_and_asks_nobody(text: str) -> None:
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


def test_no_text_of_a_file_is_markup(text: str) -> None:
    assert made_up.EVIL not in text
    assert "&lt;/script&gt;&lt;img src=x" in text, "shown as what it is"
    assert document.in_script({"a": made_up.EVIL}).isascii()
    assert "<" not in document.in_script([made_up.EVIL, "<!--", "&amp;"])
    assert json.loads(document.in_script([made_up.EVIL])) == [made_up.EVIL]


def test_the_commands_train_the_same_runs(sweep: Path) -> None:
    parser = Parser(prog="main")
    parser.add_argument("--config", default=None)
    add_config_flags(parser)

    def trained(line: str) -> RunConfig:
        words = line.split()
        assert words[:2] == ["python", "src/main.py"]
        return config_from(parser.parse(words[2:]))

    odd = RunConfig(
        base_dataset_path="synthetic",
        model_type="tinyvgg",
        hidden_units=4,
        batch_norm=False,
        amsgrad=False,
        scheduler="cosine",
        val_split="random",
        seed=7,
    )
    for config in (*made_up.configs()[::97], odd, RunConfig(data_augmentation=True)):
        assert trained(command.of_config(config)).id == config.id
    row = {"Modelname": "cnn", "augmentation": 1, "learning_rate": 0.01, "num_epochs": 5.0}
    assert command.of_row(row) == "python src/main.py -e 5 -m cnn -a -l 0.01"


def test_differences_are_judged_by_their_interval() -> None:
    def bar(accuracy: float, images: int = 10_000) -> numbers.Bar:
        low, high = numbers.interval(accuracy, images)
        return numbers.Bar("", accuracy, low, high, accuracy, None, {})

    low, high = numbers.difference(bar(56 / 70, 70), bar(48 / 80, 80))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-4), "Newcombe 1998, example (a)"
    assert numbers.within_noise(bar(0.86), bar(0.855))
    assert not numbers.within_noise(bar(0.86), bar(0.84))
    assert numbers.within_noise(bar(0.86, 200), bar(0.84, 200))


def test_importance_finds_what_matters(report: Report) -> None:
    found = importance.importance(report.runs, "vit", "best_val_accuracy")
    assert next(iter(found.shares)) == "learning_rate"
    assert sum(found.shares.values()) == pytest.approx(1)
    pruned = table.is_pruned(report.runs) & (report.runs["Modelname"] == "vit")
    assert found.runs == (report.runs["Modelname"] == "vit").sum() - pruned.sum()
    again = importance.importance(report.runs, "vit", "best_val_accuracy")
    assert again == found
    few = report.runs[report.runs["Modelname"] == "vit"].head(3)
    assert "only" in importance.importance(few, "vit", "best_val_accuracy").why_not
    flat = report.runs.assign(best_val_accuracy=0.5)
    assert importance.importance(flat, "vit", "best_val_accuracy").why_not == "nothing varies"


def test_levels_are_in_order_and_searched_ones_are_ranges(report: Report) -> None:
    found = {one.name: one for one in settings.settings(report.runs)}
    assert found["learning_rate"].levels == (1e-5, 1e-4, 1e-3, 1e-2)
    assert found["augmentation"].labels == ["off", "on"]
    assert not found["gamma"].is_wide
    assert "batch_size" not in found, "the same in all"
    searched = report.runs.assign(learning_rate=np.linspace(1e-5, 1e-2, len(report.runs)))
    searched["seed"] = np.nan
    searched.loc[searched.index[0], "seed"] = 3.0
    found = {one.name: one for one in settings.settings(searched)}
    assert found["learning_rate"].is_wide
    assert found["seed"].labels == ["3", "not told"]


def test_a_table_of_others_is_shown_as_far_as_it_goes(report: Report, tmp_path: Path) -> None:
    """Without run folders, validation accuracies, times; with a name that is markup."""
    published = [name for name in report.runs if name in rows_published()]
    theirs = report.runs[published].assign(Full_Modelname=made_up.EVIL)
    theirs.iloc[:-2].to_csv(tmp_path / "theirs.csv")
    runs = table.read(tmp_path / "theirs.csv")
    page = Report(runs, {}, tmp_path / "report").page().read_text()
    core = core_of(page)
    told = " ".join(core["unknown"])
    for words in ("best_val_accuracy", "Learning curves", "train_seconds", "10,000 test images"):
        assert words in told
    assert core["rank"]["column"] == "val_accuracy"
    assert core["standing"]["device_hours"] is None
    assert core["standing"]["total"]["missing"] == 864 - len(theirs) + 2
    assert made_up.EVIL not in page
    shown = runs_of(page)[core["columns"]["key"][0]]
    assert shown["partly"]
    assert shown["worst"][0]["accuracy"] == min(one["accuracy"] for one in shown["worst"])


def rows_published() -> tuple[str, ...]:
    from src.runs.aggregate import PUBLISHED_COLUMNS

    return PUBLISHED_COLUMNS


def test_damaged_folders_are_named(sweep: Path, tmp_path: Path) -> None:
    cells = made_up.configs()[:3]
    labels = np.arange(200) % 10
    made_up.make(tmp_path / "runs", labels, cells)
    folders = sorted(tmp_path.glob("runs/*/*/"))
    (folders[0] / "history.jsonl").write_text("{")
    (folders[0] / "predictions.npz").write_bytes(b"PK")
    (folders[1] / "history.jsonl").unlink()
    runs = collect(tmp_path / "runs").table
    page = Report(runs, {}, tmp_path, runs_dir=tmp_path / "runs").page().read_text()
    told = " ".join(core_of(page)["unknown"])
    assert "2 runs are without learning curves" in told
    assert "1 runs are without a confusion matrix" in told
    assert "other test images than the run" in told


def test_pictures_are_stored_once() -> None:
    pictures = details.LabelledImages()
    tile = np.full((32, 32, 3), 7, np.uint8)
    assert [pictures.place("a", number, tile) for number in (5, 6, 5)] == [0, 1, 0]
    assert base64.b64decode(pictures.png())[1:4] == b"PNG"
    assert details.LabelledImages().png() == ""


def test_keys_are_all_different() -> None:
    frame = pd.DataFrame({"run_id": ["a", "a", None], "Full_Modelname": ["n", "n", "n"]})
    assert list(rows.keys(frame.assign(Modelname="cnn"))) == ["a", "a~2", "n"]


def test_gaps_are_told_of_grids_alone() -> None:
    runs = pd.DataFrame([vars(one) for one in made_up.configs()])
    runs = runs.assign(Modelname=runs["model_type"], augmentation=runs["data_augmentation"])
    assert standing.of_table(runs.iloc[:-5]).total["missing"] == 5
    random = np.random.default_rng(0).uniform(size=len(runs))
    assert standing.of_table(runs.assign(learning_rate=random)).total["missing"] == 0


def test_sets_and_grids_are_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("model_type: [cnn, vit]\n")
    found = standing.read_sets(None, tmp_path / "grid.yaml")
    assert found is not None
    assert sum(map(len, found.values())) == len(grid.expand(grid.read(tmp_path / "grid.yaml"))) == 2
    with pytest.raises(UserError, match="no set files"):
        standing.read_sets(tmp_path, None)


def test_bad_input_is_one_line(
    sweep: Path, report: Report, refused: Callable[..., str], tmp_path: Path
) -> None:
    csv = ("--csv", report.out.parent / "clean_runs.csv", "--out", tmp_path)
    for words, told in [
        (("page", *csv, "--watch", "0"), "0.1 or more"),
        (("page", *csv, "--sets", tmp_path), "--runs must name the run folders"),
        (("page", "--sets", "a", "--grid", "b", *csv, "--runs", sweep), "expected one of them"),
        (("overall", *csv, "--watch"), "-watch: `overall` has no such option, but `page`"),
    ]:
        assert told in refused(main, *words)


def test_watching_writes_again_until_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It waits for the first run that is done; the last page waits for no other."""
    runs, page = tmp_path / "runs", tmp_path / "report" / "report.html"
    cells = [replace(one, base_dataset_path="cifar-10") for one in made_up.configs()[:3]]
    monkeypatch.setattr(commands, "CSV_FILE", tmp_path / "clean_runs.csv")
    seen: list[int] = []

    def a_run_ends(seconds: float) -> None:
        assert seconds == 7.5
        shown = core_of(page.read_text()) if page.exists() else {"columns": {"key": []}}
        assert shown.get("watch", 7.5) == 7.5
        seen.append(len(shown["columns"]["key"]))
        if len(seen) == 3:
            raise KeyboardInterrupt
        made_up.make(runs, np.arange(200) % 10, cells[len(seen) : len(seen) + 1])

    monkeypatch.setattr("time.sleep", a_run_ends)
    made_up.make(runs, np.arange(200) % 10, cells[:1], failed=1)
    words = ["page", "--watch", "7.5", "--runs", str(runs), "--out", str(page.parent)]
    assert main(words) == 0
    assert seen == [0, 1, 2]
    assert core_of(page.read_text())["watch"] is None
    said = capsys.readouterr()
    assert said.out.endswith("report.html\n")
    assert "no finished run yet" in said.err
