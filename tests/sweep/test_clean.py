"""python -m src.sweep clean: which files are removed, and which are kept."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.common.errors import ExitStatus, UserError
from src.config import RunConfig
from src.runs.restore import of_run
from src.runs.run_folder import RunFolder
from src.sweep.commands import clean
from tests.sweep.folders import attempt, put

BASE = RunConfig(base_dataset_path="synthetic", model_type="tinyvgg", num_epochs=4)
WEIGHTS = {"best_val_acc.pt", "best_val_loss.pt", "terminal.pt"}
UNFINISHED: list[dict[str, Any]] = [
    {"tries": [attempt(450)], "epochs": [200]},
    {"tries": [attempt(450, "stopped")], "epochs": [200]},
    {"tries": [attempt(450, "failed")], "failure": {"kind": "KeyError", "message": "x"}},
]


def folder_of(runs: Path, seed: int, **settings: Any) -> Path:
    return RunFolder.of(replace(BASE, seed=seed, **settings), runs).path


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def contents(runs: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Four finished runs with all files, and checkpoints that they should not have."""
    for seed, accuracy, model in (
        *((0, 0.5, "tinyvgg"), (1, 0.9, "tinyvgg"), (2, 0.7, "tinyvgg")),
        (0, 0.1, "cifar10net"),
    ):
        config = replace(BASE, seed=seed, model_type=model)
        done = [attempt(60, "done")]
        path = put(tmp_path, config, accuracy=accuracy, tries=done, epochs=[1.0], resumable=True)
        for name in (*WEIGHTS, "predictions.npz"):
            (path / name).write_bytes(bytes(1000))
    return tmp_path


def test_weights_beyond_the_best_of_each_architecture_are_removed(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(runs)
    words = ["--runs", str(runs), "--keep-best", "1"]
    assert clean.main([*words, "--dry-run"]) == ExitStatus.DONE
    planned = capsys.readouterr().out
    assert "tinyvgg: 3 runs done, weights of 1 kept; would free 6.0 kB in 9 files" in planned
    assert "cifar10net: 1 runs done, weights of 1 kept" in planned
    assert contents(runs) == before

    assert clean.main(words) == ExitStatus.DONE
    assert capsys.readouterr().out == planned.replace("would free", "freed")
    best, others = folder_of(runs, 1), (folder_of(runs, 0), folder_of(runs, 2))
    assert names(best) > WEIGHTS
    assert names(folder_of(runs, 0, model_type="cifar10net")) > WEIGHTS
    for path in others:
        assert not names(path) & WEIGHTS
    for path in (best, *others):
        assert "resume.pt" not in names(path)
    after = contents(runs)
    assert {path.suffix for path in before.keys() - after.keys()} == {".pt"}
    assert all(before[path] == content for path, content in after.items())
    assert clean.main(words) == ExitStatus.DONE
    assert capsys.readouterr().out.splitlines()[-1] == "freed 0.0 kB"


@pytest.mark.parametrize("state", UNFINISHED, ids=["running", "interrupted", "failed"])
def test_unfinished_runs_are_left_alone(runs: Path, state: dict[str, Any]) -> None:
    path = put(runs, replace(BASE, seed=10), resumable=True, **state)
    (path / "best_val_acc.pt").write_bytes(b"weights")
    before = contents(path)
    clean.main(["--runs", str(runs), "--keep-best", "0"])
    assert contents(path) == before


def test_weights_that_a_run_continues_from_are_kept(runs: Path) -> None:
    parent = folder_of(runs, 0) / "best_val_acc.pt"
    put(runs, replace(BASE, seed=20, parent="x/best_val_acc", parent_weights=str(parent)))
    clean.main(["--runs", str(runs), "--keep-best", "1"])
    assert parent.exists()
    assert not names(folder_of(runs, 2)) & WEIGHTS


def test_model_option_and_json_output(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--runs", str(runs), "--keep-best", "0", "--model", "cifar10net", "--json"]
    assert clean.main(words) == ExitStatus.DONE
    [space] = json.loads(capsys.readouterr().out)
    assert (space["model"], space["done"], space["kept"]) == ("cifar10net", 1, 0)
    assert len(space["files"]) == 4
    assert names(folder_of(runs, 0)) > WEIGHTS


def test_error_about_missing_weights_names_clean(runs: Path) -> None:
    clean.main(["--runs", str(runs), "--keep-best", "0"])
    with pytest.raises(
        UserError, match=r"its weights were removed, as `python -m src\.sweep clean`"
    ):
        of_run(folder_of(runs, 1))


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        clean.main(["--runs", str(tmp_path / "none"), "--keep-best", "1"])
    with pytest.raises(UserError, match="--keep_best"):
        clean.main(["--runs", str(tmp_path)])
