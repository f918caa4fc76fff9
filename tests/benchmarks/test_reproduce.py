"""benchmarks.reproduce: rows, reuse of finished runs, searches, errors, documents."""

import json
from pathlib import Path

import pytest
import yaml

from benchmarks import reproduce
from benchmarks.systems import SYSTEMS
from src.common.errors import ExitStatus, UserError
from src.common.paths import ROOT
from src.common.yaml_files import read_yaml

SHORT = {"num_epochs": 2, "max_images": 100, "val_size": 100, "batch_size": 25}


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """Write shortened copies of three recipes that need no GPU."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    for name in ("tinyvgg_run_1", "cifar10net_optim", "cifar10net_search"):
        settings = {**read_yaml(ROOT / "run_config" / f"{name}.yaml"), **SHORT}
        if "search" in settings:
            del settings["batch_size"]
            settings["search"] = {"learning_rate": {"low": 0.001, "high": 0.01, "log": True}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    return folder


def reproduce_recipes(recipes: Path, *words: str) -> ExitStatus:
    folder = recipes.parent
    options = ["-q", "-d", "synthetic", "--recipes", recipes, "--runs", folder / "runs"]
    return reproduce.main([*map(str, options), "--out", str(folder / "out"), "--only", *words])


def test_rows_match_results_of_runs(recipes: Path, capsys: pytest.CaptureFixture) -> None:
    assert reproduce_recipes(recipes, "tinyvgg_run_1") == ExitStatus.DONE
    assert reproduce_recipes(recipes, "cifar10net_optim", "--seeds", "2") == ExitStatus.DONE
    rows = json.loads((recipes.parent / "out" / reproduce.FILE).read_text())["rows"]
    assert [row["recipe"] for row in rows] == ["tinyvgg_run_1", "cifar10net_optim"]
    for row in rows:
        folders = [(recipes.parent / "runs").glob(f"*/*{run_id}") for run_id in row["run_ids"]]
        results = [json.loads((next(f) / "result.json").read_text()) for f in folders]
        for name, values in row["ours"].items():
            assert values == [result[name] for result in results]
    assert [len(row["run_ids"]) for row in rows] == [1, 2]
    table = capsys.readouterr().out
    printed = {"tinyvgg_run_1": 0, "cifar10net_optim": 1}  # in the table before it was trained
    for system in SYSTEMS:
        named = table.count(f"`make reproduce ONLY={system.recipe}`")
        assert named == printed.get(system.recipe, 2), "the command stands in place of numbers"
    assert "±" in table


def test_finished_recipe_is_not_trained_again(recipes: Path) -> None:
    reproduce_recipes(recipes, "tinyvgg_run_1")
    results = {p: p.stat().st_mtime_ns for p in recipes.parent.glob("runs/*/*/result.json")}
    reproduce_recipes(recipes, "tinyvgg_run_1")
    assert results == {p: p.stat().st_mtime_ns for p in recipes.parent.glob("runs/*/*/result.json")}


def test_search_gives_row_with_best_trial(recipes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "SEARCH_TRIALS", 2)
    assert reproduce_recipes(recipes, "cifar10net_search") == ExitStatus.DONE
    (row,) = json.loads((recipes.parent / "out" / reproduce.FILE).read_text())["rows"]
    assert sum(row["trials"].values()) == 2
    histories = recipes.parent.glob("runs/*/*/history.jsonl")
    rows = [json.loads(line) for file in histories for line in file.read_text().splitlines()]
    assert row["ours"]["val_loss"] == [min(epoch["val_loss"] for epoch in rows)]
    assert set(row["found"]) == {"learning_rate"}
    assert "2 trials of 2" in reproduce.markdown([row])


def test_bad_input_raises_user_error(recipes: Path) -> None:
    with pytest.raises(UserError, match="--only 'vgg': no such recipe; did you mean vgg6"):
        reproduce_recipes(recipes, "vgg")
    with pytest.raises(UserError, match="its numbers are no reproduction"):
        reproduce.main(["-d", "synthetic"])


def test_failing_recipe_does_not_affect_others(recipes: Path) -> None:
    status = reproduce_recipes(recipes, "tinyvgg_run_1", "vgg6")  # whose file is missing
    assert status == ExitStatus.SOME_RUNS_FAILED
    rows = json.loads((recipes.parent / "out" / reproduce.FILE).read_text())["rows"]
    assert [row["recipe"] for row in rows] == ["tinyvgg_run_1"]


def test_reproduction_table_matches_results() -> None:
    text = reproduce.DOCUMENT.read_text()
    assert text.count(reproduce.BEGIN) == text.count(reproduce.END) == 1
    table = text.partition(reproduce.BEGIN)[2].partition(reproduce.END)[0].strip()
    assert table == reproduce.markdown(reproduce._stored_rows(reproduce.RESULTS))


def test_every_recipe_is_a_system() -> None:
    names = {path.stem for path in (ROOT / "run_config").glob("*.yaml")}
    variants = {f"cifar10net_{number}" for number in range(2, 7)}
    grids = {name for name in names if name.endswith("_grid")}
    assert {system.recipe for system in SYSTEMS} == names - variants - grids
