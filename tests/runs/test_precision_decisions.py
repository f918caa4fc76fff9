"""What precision auto means is decided once for a runs folder."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import Stopped
from src.common.paths import RESULT, RESUME
from src.config import RunConfig
from src.data import synthetic
from src.main import main
from src.run import RunOptions, run
from src.runs import precision_decisions
from src.runs.precision_decisions import PrecisionDecisions
from src.runs.run_folder import RunFolder, State
from src.training import precision

BOTH = {"float32", "bfloat16"}
Bfloat16 = Callable[[bool], None]


@pytest.fixture
def auto(config: RunConfig) -> RunConfig:
    return replace(config, precision="auto", num_epochs=1, max_images=100, device="cpu")


@pytest.fixture
def native_bfloat16(monkeypatch: pytest.MonkeyPatch) -> Bfloat16:
    """Return a function that lets this CPU have native bfloat16, which is then the fastest."""

    def let(native: bool) -> None:
        monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: native)

        def measure(config: object, device: object, allowed: list, spec: object) -> dict:
            return {one: 1.0 if one.precision == "bfloat16" else 2.0 for one in allowed}

        monkeypatch.setattr(precision, "measure", measure)
        monkeypatch.setattr(precision, "_cache_file", lambda key: None)

    return let


def decision_files(runs: Path) -> list[Path]:
    return sorted((runs / "precision").glob("*.json"))


def precision_of(config: RunConfig, runs: Path) -> str:
    result = RunFolder.of(config, runs).result()
    assert result
    return str(result["precision"])


def test_first_node_decides_for_all(
    auto: RunConfig, tmp_path: Path, native_bfloat16: Bfloat16
) -> None:
    native_bfloat16(False)
    run([auto], tmp_path)
    [file] = decision_files(tmp_path)
    assert json.loads(file.read_text())["precision"] == "float32"
    native_bfloat16(True)  # a faster node, which would take bfloat16 by itself
    run([replace(auto, seed=1)], tmp_path)
    assert precision_of(replace(auto, seed=1), tmp_path) == "float32"
    run([auto], tmp_path / "another")
    assert precision_of(auto, tmp_path / "another") == "bfloat16"


def test_node_that_cannot_do_it_leaves_the_run(
    auto: RunConfig,
    tmp_path: Path,
    native_bfloat16: Bfloat16,
    capsys: pytest.CaptureFixture[str],
) -> None:
    native_bfloat16(True)
    assert PrecisionDecisions(tmp_path).decide(auto, "bfloat16") == "bfloat16"
    native_bfloat16(False)
    flags = ["-d", "synthetic", "-m", "cifar10net", "-e", "1", "--max_images", "100"]
    flags += ["-b", "50", "--device", "cpu", "--runs", str(tmp_path)]
    assert main(flags) == 1
    captured = capsys.readouterr()
    assert "not trained here: precision auto is bfloat16 in this sweep" in captured.err
    assert "1 of 1 runs are not done: 1 pending" in captured.err
    assert "pending  cifar10net" in captured.out
    assert "not trained here: precision auto is bfloat16" in captured.out  # with --quiet too
    [outcome] = run([auto], tmp_path)
    assert outcome.state == State.PENDING
    folder = RunFolder.of(auto, tmp_path)
    assert not folder.failure()
    assert not list((folder.path / "attempts").iterdir())  # no attempt is counted


def test_mixed_trains_it_marked(auto: RunConfig, tmp_path: Path, native_bfloat16: Bfloat16) -> None:
    native_bfloat16(True)
    PrecisionDecisions(tmp_path).decide(auto, "bfloat16")
    native_bfloat16(False)
    [outcome] = run([auto], tmp_path, RunOptions(mixed=True))
    assert outcome.result
    assert outcome.result["precision"] == "float32"
    assert outcome.result["precision_of_sweep"] == "bfloat16"


def test_explicit_precision_decides_and_reads_nothing(
    auto: RunConfig, tmp_path: Path, native_bfloat16: Bfloat16
) -> None:
    native_bfloat16(True)
    explicit = replace(auto, precision="float32")
    run([explicit], tmp_path)
    assert decision_files(tmp_path) == []
    PrecisionDecisions(tmp_path).decide(auto, "bfloat16")
    run([replace(explicit, seed=1)], tmp_path)
    assert precision_of(replace(explicit, seed=1), tmp_path) == "float32"


def test_checkpoint_keeps_its_arithmetic(
    auto: RunConfig, tmp_path: Path, native_bfloat16: Bfloat16
) -> None:
    native_bfloat16(False)
    longer = replace(auto, num_epochs=2, checkpoint_minutes=0)
    steps = iter([False] * 3)
    with pytest.raises(Stopped):
        run([longer], tmp_path, RunOptions(stop=lambda: next(steps, True)))
    for file in decision_files(tmp_path):
        file.unlink()
    native_bfloat16(True)
    run([longer], tmp_path)
    assert precision_of(longer, tmp_path) == "float32"


def test_folder_of_before_goes_on_as_it_was(
    auto: RunConfig, tmp_path: Path, native_bfloat16: Bfloat16
) -> None:
    native_bfloat16(False)
    run([auto], tmp_path)
    [file] = decision_files(tmp_path)
    file.unlink()  # as folders were before there were decisions
    native_bfloat16(True)
    assert PrecisionDecisions(tmp_path).decide(auto, "bfloat16") == "float32"
    other = replace(auto, model_type="tinyvgg")
    assert PrecisionDecisions(tmp_path).decide(other, "bfloat16") == "bfloat16"


def test_options_and_architectures_are_decided_for_themselves(
    auto: RunConfig, tmp_path: Path, native_bfloat16: Bfloat16
) -> None:
    native_bfloat16(True)
    decisions = PrecisionDecisions(tmp_path)
    tiny = replace(auto, model_type="tinyvgg")
    for config in (auto, replace(auto, seed=3), tiny, replace(tiny, hidden_units=4)):
        decisions.decide(config, "bfloat16")
    assert len(decision_files(tmp_path)) == 3


def test_two_that_decide_at_once_agree(
    auto: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has measured another winner; both wait for each other before they publish it."""
    together = threading.Barrier(2)

    def earlier(self: PrecisionDecisions, config: RunConfig, device: object) -> list[str]:
        together.wait(10)
        return []

    monkeypatch.setattr(PrecisionDecisions, "_earlier", earlier)
    monkeypatch.setattr(precision_decisions, "allowed_precisions", lambda config, device: BOTH)
    decided: list[str] = []

    def decide(measured: str) -> None:
        decided.append(PrecisionDecisions(tmp_path).decide(auto, measured))

    threads = [threading.Thread(target=decide, args=(one,)) for one in sorted(BOTH)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decided) == 2
    assert len(set(decided)) == 1
    [file] = decision_files(tmp_path)
    assert json.loads(file.read_text())["precision"] == decided[0]


def test_decision_made_after_a_run_was_taken_is_obeyed(
    auto: RunConfig, tmp_path: Path, native_bfloat16: Bfloat16, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node decides while this one measures: the run is interrupted, not failed."""
    native_bfloat16(True)
    PrecisionDecisions(tmp_path).decide(auto, "bfloat16")
    native_bfloat16(False)
    refusal = PrecisionDecisions.refusal
    seen: list[int] = []

    def too_late(self: PrecisionDecisions, config: RunConfig) -> str | None:
        seen.append(1)
        return None if len(seen) == 1 else refusal(self, config)

    monkeypatch.setattr(PrecisionDecisions, "refusal", too_late)
    [outcome] = run([auto], tmp_path)
    assert outcome.state == State.INTERRUPTED
    assert outcome.failure
    assert outcome.failure["kind"] == "not trained here"
    assert not RunFolder.of(auto, tmp_path).failure()


def test_damaged_decision_is_made_anew(
    auto: RunConfig, tmp_path: Path, native_bfloat16: Bfloat16
) -> None:
    native_bfloat16(True)
    PrecisionDecisions(tmp_path).decide(auto, "bfloat16")
    [file] = decision_files(tmp_path)
    file.write_text("{")
    assert PrecisionDecisions(tmp_path).decide(auto, "float32") == "float32"
    assert json.loads(file.read_text())["precision"] == "float32"


def test_result_records_data_and_versions(auto: RunConfig, tmp_path: Path) -> None:
    [outcome] = run([auto], tmp_path)
    assert outcome.result
    assert outcome.result["data_digest"] == synthetic.generate().digest
    assert {"python", "torch", "torchvision", "numpy"} <= set(outcome.result["versions"])


def test_run_on_other_data_is_not_taken_for_done(
    auto: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run([auto], tmp_path)
    path = RunFolder.of(auto, tmp_path).path / RESULT
    other = {**json.loads(path.read_text()), "data_digest": "0123456789abcdef"}
    path.write_text(json.dumps(other))
    new = replace(auto, seed=1)  # for which data is loaded
    foreign, trained = run([auto, new], tmp_path)
    assert (foreign.state, foreign.result, trained.state) == (State.PENDING, None, State.DONE)
    assert foreign.failure
    assert "trained on data 0123456789abcdef" in foreign.failure["message"]
    assert json.loads(path.read_text()) == other  # nothing is overwritten
    del other["data_digest"]  # of before: unknown
    path.write_text(json.dumps(other))
    old, _ = run([auto, replace(auto, seed=2)], tmp_path)
    assert old.state == State.DONE


def own_data(config: RunConfig, folder: Path, *, brightness: int) -> RunConfig:
    """Write images of one brightness, and return the config with their path."""
    images = np.full((60, 32, 32, 3), brightness, np.uint8)
    np.savez(folder / "mine.npz", images=images, labels=np.arange(60) % 3)
    return replace(config, base_dataset_path=str(folder / "mine.npz"), dataset="mine")


def test_run_that_was_begun_on_other_data_is_left_as_it_is(auto: RunConfig, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    mine = own_data(replace(auto, num_epochs=3), tmp_path, brightness=10)
    steps = iter([False] * 2)
    with pytest.raises(Stopped):
        run([mine], runs, RunOptions(stop=lambda: next(steps, True)))
    checkpoint = RunFolder.of(mine, runs).path / RESUME
    begun = checkpoint.read_bytes()
    own_data(mine, tmp_path, brightness=20)
    changed, new = run([mine, replace(mine, seed=1)], runs)
    assert (changed.state, new.state) == (State.INTERRUPTED, State.DONE)
    assert changed.failure
    assert "move the folder of the run" in changed.failure["message"]
    assert checkpoint.read_bytes() == begun
    own_data(mine, tmp_path, brightness=10)
    assert [outcome.state for outcome in run([mine], runs)] == [State.DONE]


def test_data_that_has_changed_is_seen_although_all_is_done(
    auto: RunConfig, tmp_path: Path
) -> None:
    """A call that has nothing to train compares too; without the data the run is done."""
    mine = own_data(auto, tmp_path, brightness=10)
    assert [one.state for one in run([mine], tmp_path / "runs")] == [State.DONE]
    assert [one.state for one in run([mine], tmp_path / "runs")] == [State.DONE]
    own_data(auto, tmp_path, brightness=20)
    [changed] = run([mine], tmp_path / "runs")
    assert (changed.state, changed.failure and changed.failure["kind"]) == ("pending", "other data")
    (tmp_path / "mine.npz").unlink()
    assert [one.state for one in run([mine], tmp_path / "runs")] == [State.DONE]
