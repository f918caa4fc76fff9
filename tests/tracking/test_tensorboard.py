"""Export of run folders to TensorBoard."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from src.common.paths import CONFIG, HISTORY
from src.report.__main__ import main
from src.runs.run_folder import all_runs


def test_tensorboard_export_has_all_epochs_and_results(trained: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # the second export replaces the first
        main(["tensorboard", "--runs", str(trained), "--out", str(tmp_path), "-q"])
    runs = list(all_runs(trained))
    assert len(runs) == 3
    for run in runs:
        events = EventAccumulator(
            str(tmp_path / "tensorboard" / run.path.parent.name / run.path.name)
        )
        events.Reload()
        history = run.history()
        for tag, name in (("loss/train", "train_loss"), ("accuracy/val", "val_accuracy")):
            logged = [(event.step, event.value) for event in events.Scalars(tag)]
            expected = [(row["epoch"], row[name]) for row in history if name in row]
            assert [step for step, _ in logged] == [step for step, _ in expected]
            assert [value for _, value in logged] == pytest.approx([v for _, v in expected])
        [accuracy] = events.Scalars("test_accuracy_best_val_acc")
        assert accuracy.value == pytest.approx((run.result() or {})["test_accuracy_best_val_acc"])


def test_damaged_runs_are_left_out(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(trained, runs)
    first, second, third = all_runs(runs)
    (first.path / HISTORY).write_text("{")
    (second.path / CONFIG).write_text("{}{")
    main(["tensorboard", "--runs", str(runs), "--out", str(tmp_path)])
    written = {path.parent.name for path in (tmp_path / "tensorboard").rglob("events.out*")}
    assert written == {third.path.name}
    stderr = capsys.readouterr().err
    assert stderr.count("left out: ") == 2
    assert first.path.name in stderr
    assert second.path.name in stderr


def test_failed_export_gives_one_line_error(
    expect_bad_input: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("tensorboard", "--runs", tmp_path, "--out", tmp_path / "out")
    assert "no run has finished an epoch" in expect_bad_input(main, *words)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert "pip install tensorboard" in expect_bad_input(main, *words)
    assert not (tmp_path / "out").exists()
