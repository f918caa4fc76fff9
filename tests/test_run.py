"""The whole flow, in this process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src import data, models
from src import run as run_module
from src.common import files
from src.common.errors import Stopped, UserError
from src.common.paths import ROOT
from src.config import RunConfig
from src.data.dataset import Dataset
from src.models.classifier import Classifier
from src.run import RunOptions, run
from src.runs import leases
from src.runs.run_folder import RunFolder, State
from src.training.trainer import Trainer

TIMES = ("train_seconds", "images_per_second", "attempt")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, small_dataset: Dataset) -> None:
    monkeypatch.setattr(data, "load", lambda path: small_dataset)


def test_a_run_folder_holds_everything(config: RunConfig, tmp_path: Path) -> None:
    [outcome] = run([replace(config, keep_checkpoints="all")], runs_dir=tmp_path)
    assert outcome.state == State.DONE
    assert {path.name for path in outcome.folder.iterdir()} == {
        *("config.json", "cells", "history.jsonl", "result.json", "predictions.npz", "attempts"),
        *("best_val_acc.pt", "best_val_loss.pt", "terminal.pt"),
    }
    result = outcome.result
    assert result
    assert result["run_id"] == config.id
    assert result["parameters"] == 201_230
    assert result["attempt"] == 1
    assert result["stop_reason"] == "completed"
    rows = RunFolder(outcome.folder).history()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"lr", "train_loss", "val_accuracy", "val_per_class_accuracy_cat", "seconds"} <= {
        *rows[0]
    }

    saved = np.load(outcome.folder / "predictions.npz")
    assert saved["features"].shape == (200, 64)
    assert saved["probabilities"].shape == (200, 10)
    accuracy = (saved["predictions"] == saved["labels"]).mean()
    assert accuracy == pytest.approx(result["test_accuracy_best_val_acc"])
    weights = torch.load(outcome.folder / "best_val_acc.pt", weights_only=True)
    models.create("cifar10net").load_state_dict(weights)


@pytest.mark.parametrize(("keep", "kept"), [("best", {"best_val_acc.pt"}), ("none", set())])
def test_which_weights_are_kept(
    config: RunConfig, tmp_path: Path, keep: str, kept: set[str]
) -> None:
    [outcome] = run([replace(config, keep_checkpoints=keep)], runs_dir=tmp_path)
    assert {path.name for path in outcome.folder.glob("*.pt")} == kept


def test_nothing_is_trained_twice(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [replace(config, scheduler="cosine", gamma=g) for g in (0.95, 0.97)]
    first = run(cells, runs_dir=tmp_path)
    assert [o.folder for o in first] == [first[0].folder] * 2
    monkeypatch.setattr(run_module, "Trainer", None)
    again = run([*cells, replace(cells[0], gamma=0.99)], runs_dir=tmp_path)
    assert [o.result for o in again] == [first[0].result] * 3
    assert len(RunFolder(first[0].folder).cells()) == 3


def test_a_run_that_diverges_does_not_stop_the_others(config: RunConfig, tmp_path: Path) -> None:
    bad = replace(config, learning_rate=1e30, precision="float32")
    outcomes = run([bad, config], runs_dir=tmp_path)
    assert [o.state for o in outcomes] == [State.FAILED, State.DONE]
    failure = outcomes[0].failure
    assert failure
    assert failure["kind"] == "non-finite loss"
    assert "loss became" in failure["message"]
    assert "Traceback" in failure["traceback"]
    assert not list(outcomes[0].folder.glob("*.pt"))
    run([bad], runs_dir=tmp_path)
    assert len(list((outcomes[0].folder / "attempts").iterdir())) == 1, "it would diverge again"
    run([bad], runs_dir=tmp_path, options=RunOptions(retry_failed=True))
    assert len(list((outcomes[0].folder / "attempts").iterdir())) == 2


def test_a_bug_in_one_run_does_not_stop_the_others_and_is_tried_again(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = models.create

    def broken(name: str, **options: object) -> Classifier:
        if name == "resnet":
            raise RuntimeError("out of luck")
        return create(name, **options)

    monkeypatch.setattr(models, "create", broken)
    outcomes = run([replace(config, model_type="resnet"), config], runs_dir=tmp_path)
    assert [o.state for o in outcomes] == [State.FAILED, State.DONE]
    assert (outcomes[0].failure or {})["message"] == "out of luck"
    monkeypatch.setattr(models, "create", create)
    [outcome] = run([outcomes[0].config], runs_dir=tmp_path)
    assert outcome.state == State.DONE
    assert outcome.failure is None


def test_what_others_finish_or_leave_behind(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run is done by another process while we train, one is left by a machine that died."""
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    runs = [replace(config, seed=seed) for seed in range(3)]
    _, taken, left = (RunFolder.of(run_, tmp_path) for run_ in runs)
    left.register(runs[2])
    record = {"attempt": 1, "process": {"machine": "another"}, "heartbeat": 5}
    (left.path / "attempts" / "1.json").write_text(json.dumps(record))
    result = {"run_id": runs[1].id, "test_accuracy_best_val_acc": 0.5, "best_val_accuracy": 0.5}
    advance = Trainer.advance

    def and_meanwhile(self: Trainer) -> bool:
        if self.config.seed == 0 and not taken.result():
            taken.write_result(result)
        return advance(self)

    monkeypatch.setattr(Trainer, "advance", and_meanwhile)
    outcomes = run(runs, runs_dir=tmp_path)
    assert [o.state for o in outcomes] == [State.DONE] * 3
    assert outcomes[1].result == result
    assert not list((taken.path / "attempts").iterdir())
    assert (outcomes[2].result or {})["attempt"] == 2


def test_a_run_that_was_over_before_it_was_claimed_is_not_done_twice(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process finishes the run after we have looked, and before we claim it."""
    folder = RunFolder.of(config, tmp_path)
    result = {"run_id": config.id, "test_accuracy_best_val_acc": 0.5, "best_val_accuracy": 0.5}
    acquire = leases.acquire

    def too_late(path: Path, **known: Any) -> leases.Lease | None:
        first = acquire(path)
        assert first
        folder.write_result(result)
        first.end("done")
        return acquire(path, **known)

    monkeypatch.setattr(leases, "acquire", too_late)
    [outcome] = run([config], runs_dir=tmp_path)
    assert outcome.result == result
    ends = [files.read_json(path) or {} for path in (folder.path / "attempts").iterdir()]
    assert sorted(end["ended"] for end in ends) == ["done", "unneeded"]


def test_a_living_process_elsewhere_is_left_alone(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    folder = RunFolder.of(config, tmp_path)
    folder.register(config)
    path = folder.path / "attempts" / "1.json"
    beats = iter(range(1000))

    def beat() -> bool:
        record = {"attempt": 1, "process": {"machine": "another"}, "heartbeat": next(beats)}
        files.write_json(path, record)
        return False

    beat()
    [outcome] = run([config], runs_dir=tmp_path, options=RunOptions(stop=beat))
    assert outcome.state == State.RUNNING
    assert [p.name for p in path.parent.iterdir()] == ["1.json"]


def test_a_run_that_cannot_be_written_is_given_back(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def full(self: RunFolder, **arrays: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(RunFolder, "write_predictions", full)
        with pytest.raises(OSError, match="No space"):
            run([config], runs_dir=tmp_path)
    folder = RunFolder.of(config, tmp_path)
    assert folder.state() == State.INTERRUPTED
    (folder.path / ".writing-left").touch()  # by a machine that is gone
    os.utime(folder.path / ".writing-left", (0, 0))
    [outcome] = run([config], runs_dir=tmp_path)
    assert outcome.state == State.DONE
    assert not list(outcome.folder.glob(".writing-*"))


def stop_after(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is None


def test_stopped_and_resumed_is_the_undisturbed_run(config: RunConfig, tmp_path: Path) -> None:
    [undisturbed] = run([config], runs_dir=tmp_path / "a")
    stops = 0
    while True:
        try:
            [outcome] = run(
                [config], runs_dir=tmp_path / "b", options=RunOptions(stop=stop_after(4))
            )
            break
        except Stopped:
            stops += 1
            folder = RunFolder.of(config, tmp_path / "b")
            assert folder.state() == State.INTERRUPTED
    assert stops >= 3
    assert outcome.result
    assert undisturbed.result
    assert outcome.result["attempt"] == stops + 1
    for name, value in undisturbed.result.items():
        assert name in TIMES or outcome.result[name] == value, name
    assert not list(outcome.folder.glob("resume*"))


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"val_split": "random", "val_size": 600}, "--val_size"),
        ({"model_type": "resnet", "dropout": 0.1}, "--dropout"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    config: RunConfig, tmp_path: Path, settings: dict, part: str
) -> None:
    with pytest.raises(UserError, match=part):
        run([config, replace(config, **settings)], runs_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_slots_do_not_change_results(config: RunConfig, tmp_path: Path) -> None:
    runs = [replace(config, seed=seed, max_images=100) for seed in range(3)]
    alone, beside = (
        run(runs, runs_dir=tmp_path / str(k), options=RunOptions(slots=k)) for k in (1, 3)
    )
    with pytest.raises(Stopped):
        run(runs, runs_dir=tmp_path / "stopped", options=RunOptions(slots=3, stop=stop_after(8)))
    assert len(list(tmp_path.glob("stopped/*/*/resume.pt"))) == 3
    resumed = run(runs, runs_dir=tmp_path / "stopped", options=RunOptions(slots=2))
    for one, *others in zip(alone, beside, resumed, strict=True):
        assert one.result
        for other in others:
            assert other.result
            for name, value in one.result.items():
                assert name in TIMES or other.result[name] == value, name


def test_the_callers_random_numbers_are_left_alone(config: RunConfig, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run([config], runs_dir=tmp_path)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "20000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "none")],
)
def test_threads_wait_as_the_environment_says(given: dict[str, str], spins: str) -> None:
    ours = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    others = {name: value for name, value in os.environ.items() if name not in ours}
    code = "import os, src; print(os.environ.get('GOMP_SPINCOUNT', 'none'))"
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, cwd=ROOT, env=others | given, check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{spins}\n"
