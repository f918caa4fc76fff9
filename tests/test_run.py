"""src.run.run end to end, in this process: results, failures, leases, resuming, slots."""

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
from src.common.errors import ExitStatus, Stopped, UserError
from src.common.paths import ROOT
from src.config import RunConfig
from src.data.dataset import Dataset
from src.models.classifier import Classifier
from src.run import RunOptions, run
from src.runs import leases
from src.runs.run_folder import RunFolder, State
from src.train import TrainingOptions, train
from src.training.trainer import Trainer

TIMES = ("train_seconds", "images_per_second", "attempt")


@pytest.fixture(autouse=True)
def _small_dataset(monkeypatch: pytest.MonkeyPatch, small_dataset: Dataset) -> None:
    monkeypatch.setattr(data, "load", lambda path, name: small_dataset)


def test_run_folder_has_all_files_and_consistent_results(config: RunConfig, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("keep_checkpoints", "expected_files"), [("best", {"best_val_acc.pt"}), ("none", set())]
)
def test_keep_checkpoints_selects_saved_weights(
    config: RunConfig, tmp_path: Path, keep_checkpoints: str, expected_files: set[str]
) -> None:
    [outcome] = run([replace(config, keep_checkpoints=keep_checkpoints)], runs_dir=tmp_path)
    assert {path.name for path in outcome.folder.glob("*.pt")} == expected_files


def test_finished_and_equivalent_runs_are_not_trained_again(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [replace(config, scheduler="cosine", gamma=g) for g in (0.95, 0.97)]
    first = run(cells, runs_dir=tmp_path)
    assert [o.folder for o in first] == [first[0].folder] * 2
    monkeypatch.setattr(run_module, "Trainer", None)
    again = run([*cells, replace(cells[0], gamma=0.99)], runs_dir=tmp_path)
    assert [o.result for o in again] == [first[0].result] * 3
    assert len(RunFolder(first[0].folder).cells()) == 3


def test_diverged_run_fails_without_stopping_other_runs(config: RunConfig, tmp_path: Path) -> None:
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
    assert len(list((outcomes[0].folder / "attempts").iterdir())) == 1, (
        "a diverged run must not be retried"
    )
    run([bad], runs_dir=tmp_path, options=RunOptions(retry_failed=True))
    assert len(list((outcomes[0].folder / "attempts").iterdir())) == 2


def test_run_with_bug_is_retried_without_stopping_other_runs(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = models.create

    def create_or_raise(name: str, **options: Any) -> Classifier:
        if name == "resnet":
            raise RuntimeError("out of luck")
        return create(name, **options)

    monkeypatch.setattr(models, "create", create_or_raise)
    outcomes = run([replace(config, model_type="resnet"), config], runs_dir=tmp_path)
    assert [o.state for o in outcomes] == [State.FAILED, State.DONE]
    assert (outcomes[0].failure or {})["message"] == "out of luck"
    monkeypatch.setattr(models, "create", create)
    [outcome] = run([outcomes[0].config], runs_dir=tmp_path)
    assert outcome.state == State.DONE
    assert outcome.failure is None


def test_runs_finished_or_abandoned_by_other_processes(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process finishes one of the runs meanwhile; a third run has an abandoned lease."""
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    runs = [replace(config, seed=seed) for seed in range(3)]
    _, finished_elsewhere, abandoned = (RunFolder.of(run_, tmp_path) for run_ in runs)
    abandoned.register(runs[2])
    record = {"attempt": 1, "process": {"machine": "another"}, "heartbeat": 5}
    (abandoned.path / "attempts" / "1.json").write_text(json.dumps(record))
    result = {"run_id": runs[1].id, "test_accuracy_best_val_acc": 0.5, "best_val_accuracy": 0.5}
    advance = Trainer.advance

    def advance_and_finish_other(self: Trainer) -> bool:
        if self.config.seed == 0 and not finished_elsewhere.result():
            finished_elsewhere.write_result(result)
        return advance(self)

    monkeypatch.setattr(Trainer, "advance", advance_and_finish_other)
    outcomes = run(runs, runs_dir=tmp_path)
    assert [o.state for o in outcomes] == [State.DONE] * 3
    assert outcomes[1].result == result
    assert not list((finished_elsewhere.path / "attempts").iterdir())
    assert (outcomes[2].result or {})["attempt"] == 2


def test_run_finished_just_before_lease_is_not_trained_again(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process finishes the run between our check and our lease."""
    folder = RunFolder.of(config, tmp_path)
    result = {"run_id": config.id, "test_accuracy_best_val_acc": 0.5, "best_val_accuracy": 0.5}
    acquire = leases.acquire

    def acquire_after_other_finished(path: Path, **known: Any) -> leases.Lease | None:
        first = acquire(path)
        assert first
        folder.write_result(result)
        first.end("done")
        return acquire(path, **known)

    monkeypatch.setattr(leases, "acquire", acquire_after_other_finished)
    [outcome] = run([config], runs_dir=tmp_path)
    assert outcome.result == result
    ends = [files.read_json(path) or {} for path in (folder.path / "attempts").iterdir()]
    assert sorted(end["ended"] for end in ends) == ["done", "unneeded"]


def test_run_with_live_lease_is_not_taken_over(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    folder = RunFolder.of(config, tmp_path)
    folder.register(config)
    path = folder.path / "attempts" / "1.json"
    beats = iter(range(1000))

    def advance_heartbeat() -> bool:
        record = {"attempt": 1, "process": {"machine": "another"}, "heartbeat": next(beats)}
        files.write_json(path, record)
        return False

    advance_heartbeat()
    [outcome] = run([config], runs_dir=tmp_path, options=RunOptions(stop=advance_heartbeat))
    assert outcome.state == State.RUNNING
    assert [p.name for p in path.parent.iterdir()] == ["1.json"]


@pytest.mark.usefixtures("age_by_mtime")
def test_write_error_interrupts_run_which_later_finishes(
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
    (folder.path / ".writing-left").touch()  # as if left by a process on another machine
    os.utime(folder.path / ".writing-left", (0, 0))
    [outcome] = run([config], runs_dir=tmp_path)
    assert outcome.state == State.DONE
    assert not list(outcome.folder.glob(".writing-*"))


def stop_after(count: int) -> Callable[[], bool]:
    remaining = iter(range(count))
    return lambda: next(remaining, None) is None


def test_stopped_and_resumed_run_equals_uninterrupted_run(
    config: RunConfig, tmp_path: Path
) -> None:
    [uninterrupted] = run([config], runs_dir=tmp_path / "a")
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
    assert uninterrupted.result
    assert outcome.result["attempt"] == stops + 1
    for name, value in uninterrupted.result.items():
        assert name in TIMES or outcome.result[name] == value, name
    assert not list(outcome.folder.glob("resume*"))


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"val_split": "random", "val_size": 600}, "--val_size"),
        ({"model_type": "resnet", "dropout": 0.1}, "--dropout"),
    ],
)
def test_invalid_config_is_rejected_before_anything_is_written(
    config: RunConfig, tmp_path: Path, settings: dict, part: str
) -> None:
    with pytest.raises(UserError, match=part):
        run([config, replace(config, **settings)], runs_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_number_of_slots_does_not_change_results(config: RunConfig, tmp_path: Path) -> None:
    runs = [replace(config, seed=seed, max_images=100) for seed in range(3)]
    one_slot, three_slots = (
        run(runs, runs_dir=tmp_path / str(k), options=RunOptions(slots=k)) for k in (1, 3)
    )
    with pytest.raises(Stopped):
        run(runs, runs_dir=tmp_path / "stopped", options=RunOptions(slots=3, stop=stop_after(8)))
    assert len(list(tmp_path.glob("stopped/*/*/resume.pt"))) == 3
    resumed = run(runs, runs_dir=tmp_path / "stopped", options=RunOptions(slots=2))
    for reference, *others in zip(one_slot, three_slots, resumed, strict=True):
        assert reference.result
        for other in others:
            assert other.result
            for name, value in reference.result.items():
                assert name in TIMES or other.result[name] == value, name


def test_worker_exits_with_success_while_others_train_the_rest(
    config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A process on another machine holds one of two runs, and its heartbeat goes on."""
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    ours, theirs = config, replace(config, seed=1)
    folder = RunFolder.of(theirs, tmp_path)
    folder.register(theirs)
    with monkeypatch.context() as patch:
        elsewhere = {"machine": "elsewhere", "pid": 1, "start": 0.0}
        patch.setattr(leases.processes, "identity", lambda: elsewhere)
        lease = leases.acquire(folder.path)
    assert lease
    options = TrainingOptions(runs_dir=tmp_path, quiet=True, wandb="disabled")
    try:
        assert train([ours, theirs], options) == ExitStatus.DONE
    finally:
        lease.end("failed")
    output = capsys.readouterr()
    assert "nothing left to train here: 1 running in other processes" in output.err
    assert [line.split()[0] for line in output.out.splitlines()] == ["done", "running"]
    folder.write_failure({"cause": "other", "kind": "KeyError", "message": "x", "retry": False})
    assert train([ours, theirs], options) == ExitStatus.SOME_RUNS_FAILED


def test_run_preserves_torch_random_state(config: RunConfig, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run([config], runs_dir=tmp_path)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("variables", "expected_spincount"),
    [({}, "20000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "none")],
)
def test_gomp_spincount_default_and_overrides(
    variables: dict[str, str], expected_spincount: str
) -> None:
    openmp_variables = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    others = {name: value for name, value in os.environ.items() if name not in openmp_variables}
    code = "import os, src; print(os.environ.get('GOMP_SPINCOUNT', 'none'))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env=others | variables, check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{expected_spincount}\n"
