"""python -m src.sweep clean: what it removes, what it keeps, and what later commands say."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.common import files, temporary_files
from src.common.errors import DiskFull, UserError
from src.common.removed_files import why_removed
from src.config import RunConfig
from src.evaluate import main as evaluate
from src.main import main as train_one
from src.models.state_dicts import read_state
from src.report.__main__ import main as report
from src.report.run_analysis import predictions
from src.runs.run_folder import RunFolder
from src.sweep import cleaning
from src.sweep.__main__ import main
from tests.conftest import RunCommand
from tests.sweep import folders

WEIGHTS = ("best_val_acc.pt", "best_val_loss.pt", "terminal.pt")
DEAD = ".writing-00000000-1-x"
Clean = Callable[..., dict[str, Any]]


@pytest.fixture
def clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Clean:
    """Return a function that runs the command on tmp_path and parses --json."""

    def call(*words: object) -> dict[str, Any]:
        assert main(["clean", "--runs", str(tmp_path), *map(str, words), "--json"]) == 0
        output: dict[str, Any] = json.loads(capsys.readouterr().out)
        return output

    return call


def make(number: int, model: str = "cifar10net", **settings: Any) -> RunConfig:
    """Return the config of a run; `number` makes it unlike the others."""
    return RunConfig(model_type=model, seed=number, base_dataset_path="cifar", **settings)


def put(runs: Path, config: RunConfig, accuracy: float | None, **more: Any) -> Path:
    """Write a run folder with an attempt, weights, predictions, history and a checkpoint."""
    ended = "done" if accuracy is not None else "stopped"
    tries = more.pop("tries", [folders.attempt(60, ended)])
    path = folders.put(runs, config, tries=tries, epochs=[1.0], accuracy=accuracy, **more)
    for name in (*WEIGHTS, "resume.pt", "resume.before.pt", "predictions.npz"):
        (path / name).write_bytes(b"x" * 1000)
    return path


def names(path: Path) -> set[str]:
    return {one.name for one in path.iterdir()}


def everything(runs: Path) -> dict[str, bytes]:
    """Return the content of all files under `runs`."""
    return {str(path): path.read_bytes() for path in runs.rglob("*") if path.is_file()}


def test_only_best_runs_of_each_architecture_keep_weights(clean: Clean, tmp_path: Path) -> None:
    runs = {
        (model, accuracy): put(tmp_path, make(n, model), accuracy)
        for model in ("cifar10net", "tinyvgg")
        for n, accuracy in enumerate((0.5, 0.9, 0.7), 1)
    }
    output = clean("--keep-best", 2)
    for (_, accuracy), path in runs.items():
        assert (set(WEIGHTS) <= names(path)) == (accuracy > 0.5)
        assert not {"resume.pt", "resume.before.pt"} & names(path)
        kept = {"config.json", "cells", "attempts", "history.jsonl", "result.json"}
        assert kept | {"predictions.npz"} <= names(path)
        assert ("cleaned.json" in names(path)) == (accuracy == 0.5)
    one = {"runs": 3, "unfinished": 0, "kept": 2, "files": 9, "freed_bytes": 9000}
    assert output["models"] == {"cifar10net": one, "tinyvgg": one}
    assert output["freed_bytes"] == 18_000
    again = clean("--keep-best", 2)
    assert (again["files"], again["freed_bytes"]) == ([], 0)


def test_dry_run_lists_exactly_the_removed_files_and_changes_nothing(
    clean: Clean, tmp_path: Path
) -> None:
    for number, accuracy in enumerate((0.5, 0.9, None)):
        (put(tmp_path, make(number), accuracy) / DEAD).touch()
    before = everything(tmp_path)
    dry = clean("--keep-best", 1, "--dry-run", "--predictions")
    assert everything(tmp_path) == before
    done = clean("--keep-best", 1, "--predictions")
    assert {**dry, "dry_run": False} == done
    assert before.keys() - everything(tmp_path).keys() == set(done["files"])
    assert len(done["files"]) == len(WEIGHTS) + 1 + 2 * 2


def test_unfinished_runs_keep_weights_and_checkpoints(clean: Clean, tmp_path: Path) -> None:
    """Interrupted, failed, pruned, pending and running ones, also of another machine."""
    running = [folders.attempt(60)]
    paths = [
        put(tmp_path, make(1), None),
        put(tmp_path, make(2), None, failure={"kind": "x"}),
        put(tmp_path, make(3), None, pruned=0.4),
        put(tmp_path, make(4), None, tries=[]),
        put(tmp_path, make(5), None, tries=running),
    ]
    before = everything(tmp_path)
    output = clean("--keep-best", 0, "--predictions")
    assert everything(tmp_path) == before
    assert output["models"]["cifar10net"]["unfinished"] == len(paths)


def test_leftovers_of_dead_writers_are_removed_except_of_running_runs(
    clean: Clean, tmp_path: Path
) -> None:
    stopped = put(tmp_path, make(1), None)
    running = put(tmp_path, make(2), None, tries=[folders.attempt(60)])
    prefix = f".writing-{temporary_files._machine_hash()}-"
    dead, alive = f"{prefix}{2**22 + 1}-x", f"{prefix}1-x"
    for folder in (stopped, stopped / "attempts", running):
        for name in (dead, alive):
            (folder / name).touch()
    output = clean("--keep-best", 0)
    assert set(output["files"]) == {str(stopped / dead), str(stopped / "attempts" / dead)}
    assert (running / dead).exists()
    assert (stopped / alive).exists()


def test_weights_that_other_runs_start_with_are_kept(clean: Clean, tmp_path: Path) -> None:
    """By path, by id where the folder was moved since, and as --weights FILE."""
    by_path, by_id, as_file, unused = (put(tmp_path, make(n), 0.1 * n) for n in range(1, 5))
    child = replace(make(11), parent="x/best_val_acc", parent_weights=str(by_path / WEIGHTS[0]))
    put(tmp_path, child, None)
    moved = f"{by_id.name.rpartition('-')[2]}/best_val_acc"
    put(tmp_path, replace(make(12), parent=moved, parent_weights="/gone/best_val_acc.pt"), 0.99)
    put(tmp_path, make(13, "resnet18_transfer", weights=str(as_file / WEIGHTS[0])), None)
    clean("--keep-best", 1, "--model", "cifar10net")
    for path in (by_path, by_id, as_file):
        assert set(WEIGHTS) <= names(path), path
    assert not set(WEIGHTS) & names(unused)


def test_runs_that_cannot_be_ranked_keep_weights(clean: Clean, tmp_path: Path) -> None:
    damaged, no_number, no_config = (put(tmp_path, make(n), 0.1) for n in range(3))
    (damaged / "result.json").write_text("{")
    result = json.loads((no_number / "result.json").read_text())
    (no_number / "result.json").write_text(json.dumps({**result, "best_val_accuracy": None}))
    (no_config / "config.json").write_text("{")
    clean("--keep-best", 0)
    for path in (damaged, no_number, no_config):
        assert set(WEIGHTS) <= names(path)
    assert "resume.pt" in names(damaged), "a run without a result is resumed"


def test_ties_and_other_data_sets_do_not_push_out_best_runs(clean: Clean, tmp_path: Path) -> None:
    equal = [put(tmp_path, make(n), 0.5) for n in range(3)]
    synthetic = [
        put(tmp_path, replace(make(n), base_dataset_path="synthetic"), 0.9 + n / 100)
        for n in range(10, 12)
    ]
    clean("--keep-best", 1)
    assert all(set(WEIGHTS) <= names(path) for path in (*equal, synthetic[1]))
    assert not set(WEIGHTS) & names(synthetic[0])


def test_only_runs_of_named_model_are_cleaned(clean: Clean, tmp_path: Path) -> None:
    put(tmp_path, make(1), 0.5)
    other = put(tmp_path, make(1, "tinyvgg"), 0.5)
    assert list(clean("--keep-best", 0, "--model", "cifar10net")["models"]) == ["cifar10net"]
    assert {"resume.pt", *WEIGHTS} <= names(other)


def test_files_of_others_in_run_folder_are_kept(clean: Clean, tmp_path: Path) -> None:
    path = put(tmp_path, make(1), 0.5)
    (path / "my_own.pt").touch()
    clean("--keep-best", 0, "--predictions")
    assert "my_own.pt" in names(path)
    assert "predictions.npz" not in names(path)


def test_full_disk_does_not_keep_weights_from_being_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of a removal needs space, which the removal makes."""
    path = put(tmp_path, make(1), 0.5)
    write_json = files.write_json

    def write_if_there_is_space(to: Path, *rest: Any) -> None:
        if (path / WEIGHTS[0]).exists():
            raise DiskFull(28, str(to), 100, 0)
        write_json(to, *rest)

    monkeypatch.setattr(files, "write_json", write_if_there_is_space)
    for run in cleaning.plan_cleaning(tmp_path, 0):
        cleaning.remove(run)
    assert not set(WEIGHTS) & names(path)
    assert why_removed(path / WEIGHTS[0])


def test_table_shows_runs_and_freed_bytes_by_architecture(
    command: RunCommand, tmp_path: Path
) -> None:
    for number in range(2):
        put(tmp_path, make(number), 0.5 + number / 10)
        put(tmp_path, make(number, "tinyvgg"), 0.5 + number / 10)
    words = ("python", "-m", "src.sweep", "clean", "--keep-best", 1, "--runs", tmp_path)
    dry, done = (command(*words, *more).stdout for more in (["--dry-run"], []))
    assert dry.replace("would remove", "removed").replace("would be freed", "freed").split() == (
        done.split()
    )
    assert done.count("best_val_acc.pt, best_val_loss.pt, terminal.pt (5.0 kB)") == 2
    rows = [line.split() for line in done.splitlines()[-4:]]
    assert rows[0] == ["runs", "unfinished", "kept", "files", "freed"]
    assert rows[1] == ["cifar10net", "2", "0", "1", "7", "7.0", "kB"]
    assert rows[3] == ["all", "4", "0", "2", "14", "14.0", "kB"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "--keep_best"),
        (("--keep-best", "-1"), "expected a whole number"),
        (("--keep-best", "some"), "expected a whole number"),
        (("--keep-best", "1", "--model", "resnt"), "--model 'resnt': expected one of cifar10net"),
        (("--keep-best", "1", "--runs", "/nowhere"), "no such folder"),
    ],
)
def test_bad_input_gives_one_line(
    expect_bad_input: Callable[..., str], tmp_path: Path, words: tuple[str, ...], part: str
) -> None:
    put(tmp_path, make(1), 0.5)
    before = everything(tmp_path)
    assert part in expect_bad_input(main, "clean", "--runs", tmp_path, *words)
    assert everything(tmp_path) == before


def test_later_commands_say_that_clean_removed_the_file(
    clean: Clean, expect_bad_input: Callable[..., str], tmp_path: Path
) -> None:
    path = put(tmp_path, make(1), 0.5)
    weights = path / WEIGHTS[0]
    clean("--keep-best", 0, "--predictions")
    run = ("--runs", tmp_path, "--run", path, "--out", tmp_path / "charts")
    for main_of, words in (
        (evaluate, ("--model", path)),
        (evaluate, ("--model", weights)),
        (train_one, ("--continue", path)),
        (train_one, ("--continue", weights)),
        (report, ("confusion", *run)),
        (report, ("tsne", "--sample", "train", *run)),
    ):
        message = expect_bad_input(main_of, *words)
        assert re.search(r"`python -m src.sweep clean` removed it on \d{4}-\d\d-\d\d", message)
    with pytest.raises(UserError, match="clean` removed it"):
        read_state(weights)
    with pytest.raises(UserError, match="clean` removed it"):
        predictions.read(RunFolder(path))
    weights.touch()  # it was trained again since
    assert "clean" not in expect_bad_input(evaluate, "--model", path, "--test_path", "/nowhere")
