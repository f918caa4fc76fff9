"""Measurement helpers: alternation, medians, FLOPs, memory, result files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import accuracy, measure
from benchmarks.measure import Duration, Interval, StepwiseArm, Timing, alternate, lead_steps
from benchmarks.record import Record
from benchmarks.workload import run_config

CPU = torch.device("cpu")


class ScriptedArm:
    """An arm with given speeds that records its calls."""

    def __init__(self, name: str, rates: list[int], calls: list[str]) -> None:
        self.name, self.rates, self.calls = name, iter(rates), calls

    def measure(self, duration: Duration) -> Interval:
        self.calls.append(f"{self.name} {duration.seconds:g} {duration.steps}")
        rate = next(self.rates)
        if rate < 0:
            raise RuntimeError("failure of the arm")
        return Interval(rate * 2, 2.0, 1)

    def loss(self) -> float:
        return 0.0

    def close(self) -> None:
        pass


def test_alternate_measures_arms_in_turn_and_reports_median() -> None:
    calls: list[str] = []
    arms = {
        "a": ScriptedArm("a", [999, 10, 50, 20], calls),
        "b": ScriptedArm("b", [1, 7, 7, 7], calls),
        "c": ScriptedArm("c", [1, 7, -1], calls),
    }
    timings = alternate(arms, 3, Duration(5, 2), {"b": 4})
    assert calls[:3] == ["a 0 1", "b 0 4", "c 0 1"]
    assert calls[3:] == ["a 5 2", "b 5 2", "c 5 2"] * 2 + ["a 5 2", "b 5 2"]
    assert timings["a"].rate == 20
    assert timings["a"].spread == 2
    assert timings["b"].rate == 7
    assert timings["b"].spread == 0
    assert timings["c"].failure == "RuntimeError: failure of the arm"
    assert timings["c"].rate is None
    assert Timing().rate is None


def test_reason_of_out_of_memory_error() -> None:
    assert measure.reason(torch.OutOfMemoryError("long text")) == "out of memory"


class FakeClockArm(StepwiseArm):
    """An arm whose steps take two seconds of a fake clock."""

    def __init__(self) -> None:
        super().__init__(CPU, clock=lambda: self.now)
        self.now, self.done = 0.0, 0

    def step(self) -> int:
        self.now += 2
        self.done += 1
        return 10


def test_interval_has_least_seconds_and_steps() -> None:
    arm = FakeClockArm()
    assert arm.measure(Duration(5)) == Interval(30, 6.0, 3)
    assert arm.measure(Duration(1, 4)) == Interval(40, 8.0, 4)
    assert arm.measure(Duration(4)).rate == 5
    assert arm.done == 9


def test_lead_steps_depend_on_pace_and_duration() -> None:
    duration = Duration(1)
    assert [lead_steps(duration, pace) for pace in (float("inf"), 2, 0.4, 0.001)] == [0, 0, 2, 8]
    assert lead_steps(Duration(0, 5), 0.001) == 0


def test_flops_per_image_matches_manual_count() -> None:
    """Count two FLOPs per multiply-add, and no gradient of the input in the backward pass."""
    first = 3 * 9 * 20 * 30 * 30
    others = 20 * 16 * 40 * 12 * 12 + 1440 * 124 + 124 * 64 + 64 * 10
    assert measure.flops_per_image(run_config("cifar10net", 50)) == 2 * (2 * first + 3 * others)


def test_ceiling_is_speed_of_fastest_matrix_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_CEILING_SIDES", {"cpu": (64, 128)})
    rates = {64: 3.0, 128: 2.0}
    with monkeypatch.context() as patch:
        patch.setattr(measure, "_product_rate", lambda side, *_: rates[side])
        assert measure.ceiling(CPU, torch.float32) == 3
    assert measure.ceiling(CPU, torch.float32, seconds=0.02) > 0.1


def test_peak_memory_includes_freed_memory() -> None:
    measure.reset_peak_memory()
    block = np.ones(300_000_000, np.uint8)
    memory_with_block = measure.resident_memory()
    del block
    assert memory_with_block - measure.resident_memory() > 200_000_000
    assert measure.peak_memory() > 0.99 * memory_with_block


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record("toy", CPU, {"rounds": 3}, tmp_path / "deep" / "results")


def test_record_writes_json_and_markdown_with_machine(record: Record) -> None:
    table = record.table("Speed", ("arm", "images/s"), ["a note"])
    record.add(table, ("ours", 1234.5), spells=[[1, 2.0]])
    record.add(table, ("theirs", None), failure="failure of the arm")
    value = json.loads(record.path.read_text())
    assert value["kind"] == "toy"
    assert value["settings"] == {"rounds": 3}
    expected_fields = {"date", "device", "cores", "memory_gib", "torch", "python", "git_commit"}
    assert expected_fields <= set(value["machine"])
    assert value["machine"]["torch"] == torch.__version__
    first, second = value["measurements"]
    assert first == {"table": "Speed", "arm": "ours", "images/s": 1234.5, "spells": [[1, 2.0]]}
    assert second["failure"] == "failure of the arm"
    assert record.path.name.startswith("toy-cpu-")
    assert record.path.name.endswith(f"-{value['machine']['date']}.json")

    text = record.path.with_suffix(".md").read_text()
    assert "| arm | images/s |\n| --- | --- |\n| ours | 1,234 |\n| theirs |  |\n\n- a note" in text
    assert f"- torch: {torch.__version__}" in text
    assert "- settings: rounds 3" in text
    assert len(list(record.out.iterdir())) == 2


def test_arms_are_compared_by_their_common_seeds(record: Record) -> None:
    def results(accuracies: dict[int, float]) -> dict[int, dict[str, float]]:
        return {
            seed: {"test_accuracy_best_val_acc": value, "train_loss": 1.0}
            for seed, value in accuracies.items()
        }

    first = results({0: 0.6, 1: 0.7, 2: 0.8, 3: 0.75})
    other = results({1: 0.701, 2: 0.802, 3: 0.753, 4: 0.9})
    accuracy._tabulate(record, {"float32": first, "winograd": other}, 0.5)
    _, row = json.loads(record.path.read_text())["measurements"]
    assert row["difference"] == pytest.approx(0.2)
    assert row["verdict"].startswith("equal within 0.5 points")
    assert len(row["accuracies"]) == 4


def test_verdict_is_a_test_of_equivalence() -> None:
    first = [70.0, 72.0, 69.0, 71.0]
    close = [70.1, 72.0, 68.9, 71.0]  # seed by seed
    assert accuracy.verdict(first, close, 0.5).startswith("equal within 0.5 points (p = 0.00")
    assert accuracy.verdict(first, close, 0.05) == "not shown to be equal within 0.05 points"
    assert accuracy.verdict(first, [v + 1 for v in close], 0.5).startswith("not shown")
    # the same means, but seeds that differ widely: nothing is shown
    assert accuracy.verdict(first, [72.0, 70.0, 71.0, 69.0], 0.5).startswith("not shown")
    assert accuracy.verdict(first[:2], close[:2], 0.5) == "not shown: too few runs"
