"""The measuring itself: turns, medians, counted work, memory, files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import accuracy, measure
from benchmarks.measure import Amount, Spell, Stepped, Timing, alternate, lead_steps
from benchmarks.record import Record
from benchmarks.workload import run_config

CPU = torch.device("cpu")


class Canned:
    """An arm whose spells are given, and which notes when it is asked."""

    def __init__(self, name: str, rates: list[int], asked: list[str]) -> None:
        self.name, self.rates, self.asked = name, iter(rates), asked

    def spell(self, amount: Amount) -> Spell:
        self.asked.append(f"{self.name} {amount.seconds:g} {amount.steps}")
        rate = next(self.rates)
        if rate < 0:
            raise RuntimeError("it broke")
        return Spell(rate * 2, 2.0, 1)

    def loss(self) -> float:
        return 0.0

    def close(self) -> None:
        pass


def test_arms_are_measured_in_turn_and_the_median_counts() -> None:
    asked: list[str] = []
    arms = {
        "a": Canned("a", [999, 10, 50, 20], asked),
        "b": Canned("b", [1, 7, 7, 7], asked),
        "c": Canned("c", [1, 7, -1], asked),
    }
    timings = alternate(arms, 3, Amount(5, 2), {"b": 4})
    assert asked[:3] == ["a 0 1", "b 0 4", "c 0 1"]
    assert asked[3:] == ["a 5 2", "b 5 2", "c 5 2"] * 2 + ["a 5 2", "b 5 2"]
    assert timings["a"].rate == 20
    assert timings["a"].spread == 2
    assert timings["b"].rate == 7
    assert timings["b"].spread == 0
    assert timings["c"].failure == "RuntimeError: it broke"
    assert timings["c"].rate is None
    assert Timing().rate is None


def test_memory_that_runs_out_is_called_so() -> None:
    assert measure.reason(torch.OutOfMemoryError("long text")) == "out of memory"


class Ticking(Stepped):
    """Every step takes two seconds of a fake clock."""

    def __init__(self) -> None:
        super().__init__(CPU, clock=lambda: self.now)
        self.now, self.done = 0.0, 0

    def step(self) -> int:
        self.now += 2
        self.done += 1
        return 10


def test_a_spell_lasts_as_long_as_asked() -> None:
    arm = Ticking()
    assert arm.spell(Amount(5)) == Spell(30, 6.0, 3)
    assert arm.spell(Amount(1, 4)) == Spell(40, 8.0, 4)
    assert arm.spell(Amount(4)).rate == 5
    assert arm.done == 9


def test_quick_steps_begin_with_some_that_do_not_count() -> None:
    spell = Amount(1)
    assert [lead_steps(spell, pace) for pace in (float("inf"), 2, 0.4, 0.001)] == [0, 0, 2, 8]
    assert lead_steps(Amount(0, 5), 0.001) == 0


def test_flops_are_those_of_a_hand_count() -> None:
    """Two per multiply-add; backward twice that, but for the gradient of the pixels."""
    first = 3 * 9 * 20 * 30 * 30
    others = 20 * 16 * 40 * 12 * 12 + 1440 * 124 + 124 * 64 + 64 * 10
    assert measure.flops_per_image(run_config("cifar10net", 50)) == 2 * (2 * first + 3 * others)


def test_the_ceiling_is_that_of_the_quickest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_CEILING_SIDES", {"cpu": (64, 128)})
    rates = {64: 3.0, 128: 2.0}
    with monkeypatch.context() as patch:
        patch.setattr(measure, "_product_rate", lambda side, *_: rates[side])
        assert measure.ceiling(CPU, torch.float32) == 3
    assert measure.ceiling(CPU, torch.float32, seconds=0.02) > 0.1


def test_the_peak_of_memory_outlasts_it() -> None:
    measure.forget_peak()
    block = np.ones(300_000_000, np.uint8)
    held = measure.memory_now()
    del block
    assert held - measure.memory_now() > 200_000_000
    assert measure.peak_memory() > 0.99 * held


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record("toy", CPU, {"rounds": 3}, tmp_path / "deep" / "results")


def test_results_are_written_whole_with_where_and_when(record: Record) -> None:
    table = record.table("Speed", ("arm", "images/s"), ["a note"])
    record.add(table, ("ours", 1234.5), spells=[[1, 2.0]])
    record.add(table, ("theirs", None), failure="it broke")
    value = json.loads(record.path.read_text())
    assert value["kind"] == "toy"
    assert value["settings"] == {"rounds": 3}
    named = {"date", "device", "cores", "memory_gib", "torch", "python", "git_commit"}
    assert named <= set(value["machine"])
    assert value["machine"]["torch"] == torch.__version__
    first, second = value["measurements"]
    assert first == {"table": "Speed", "arm": "ours", "images/s": 1234.5, "spells": [[1, 2.0]]}
    assert second["failure"] == "it broke"
    assert record.path.name.startswith("toy-cpu-")
    assert record.path.name.endswith(f"-{value['machine']['date']}.json")

    text = record.path.with_suffix(".md").read_text()
    assert "| arm | images/s |\n| --- | --- |\n| ours | 1,234 |\n| theirs |  |\n\n- a note" in text
    assert f"- torch: {torch.__version__}" in text
    assert "- settings: rounds 3" in text
    assert len(list(record.out.iterdir())) == 2


def test_accuracies_are_compared_with_the_spread_of_seeds() -> None:
    assert accuracy.verdict([70, 72], [71, 73]) == "within one standard deviation"
    assert accuracy.verdict([70, 70.1], [71, 71.1]) == "not within one standard deviation"
    assert accuracy.verdict([70], [71]) == "too few runs to tell"
