"""Which arithmetic a run trains in: measured once, remembered, and always to be forced."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.training import precision
from src.training.precision import ComputeFormat, choose, select_compute_format
from src.training.trainer import Trainer, TrainerContext

CPU = torch.device("cpu")
FLOAT32_CONTIGUOUS = ComputeFormat("float32", "contiguous")
FAST = ComputeFormat("bfloat16", "channels_last")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
    return tmp_path / "cache"


def answer(monkeypatch: pytest.MonkeyPatch, seconds: dict[ComputeFormat, float]) -> list[str]:
    """Let the measurement say `seconds`; the models that it was asked about."""
    asked: list[str] = []

    def measure(config: RunConfig, device: object, candidates: list[ComputeFormat]) -> object:
        asked.append(config.model_type)
        return {candidate: seconds.get(candidate, 1.0) for candidate in candidates}

    monkeypatch.setattr(precision, "measure", measure)
    return asked


def test_the_fastest_is_taken_and_remembered(
    config: RunConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer(monkeypatch, {FAST: 0.4})
    assert [select_compute_format(config, CPU) for _ in range(3)] == [FAST] * 3
    assert select_compute_format(replace(config, seed=5, batch_size=7), CPU) == FAST
    assert asked == ["cifar10net"]
    select_compute_format(replace(config, model_type="resnet"), CPU)
    assert asked == ["cifar10net", "resnet"]
    [kept] = [
        json.loads(path.read_text())
        for path in cache.rglob("*.json")
        if "cifar10net" in path.read_text()
    ]
    assert kept["fastest"] == {
        "precision": "bfloat16",
        "memory_format": "channels_last",
        "convolution": "direct",
    }
    assert len(kept["seconds"]) == 4


def test_a_damaged_memory_is_measured_again(
    config: RunConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer(monkeypatch, {FAST: 0.4})
    select_compute_format(config, CPU)
    for text in ("{", '{"fastest": {"precision": "float8", "memory_format": "contiguous"}}'):
        [file] = cache.rglob("*.json")
        file.write_text(text)
        assert select_compute_format(config, CPU) == FAST
    assert len(asked) == 3


def test_of_two_that_measure_at_once_the_first_decides(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs of one array start together, and noise may tell them different things."""
    other: list[ComputeFormat] = []

    def measure(
        _: RunConfig, __: object, candidates: list[ComputeFormat]
    ) -> dict[ComputeFormat, float]:
        fastest = FLOAT32_CONTIGUOUS
        if not other:
            other.append(FAST)
            other[0] = select_compute_format(config, CPU)  # done while this one measures
            fastest = FAST
        return {candidate: 0.4 if candidate == fastest else 1.0 for candidate in candidates}

    monkeypatch.setattr(precision, "measure", measure)
    assert select_compute_format(config, CPU) == other[0] == FLOAT32_CONTIGUOUS
    assert select_compute_format(config, CPU) == FLOAT32_CONTIGUOUS


def test_what_cannot_be_kept_is_measured_each_time(
    config: RunConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder should be")
    asked = answer(monkeypatch, {FAST: 0.4})
    assert [select_compute_format(config, CPU) for _ in range(2)] == [FAST] * 2
    assert len(asked) == 2


def test_either_can_be_forced(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, {FAST: 0.4})
    run = replace(config, precision="float32", memory_format="contiguous")
    assert select_compute_format(run, CPU) == FLOAT32_CONTIGUOUS
    assert asked == []
    half = select_compute_format(replace(config, precision="float32"), CPU)
    assert half.precision == "float32"
    assert (
        select_compute_format(replace(config, memory_format="contiguous"), CPU)
        == FLOAT32_CONTIGUOUS
    )
    vit = select_compute_format(replace(config, model_type="vit", precision="bfloat16"), CPU)
    assert vit == ComputeFormat("bfloat16", "contiguous")  # nothing to lay out otherwise


def test_winograd_is_tried_where_it_suits(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = ComputeFormat("float32", "channels_last", "winograd")
    tried: list[list[ComputeFormat]] = []

    def measure(
        _: RunConfig, __: object, candidates: list[ComputeFormat]
    ) -> dict[ComputeFormat, float]:
        tried.append(candidates)
        return {candidate: 0.4 if candidate == best else 1.0 for candidate in candidates}

    monkeypatch.setattr(precision, "measure", measure)
    wide = replace(config, model_type="tinyvgg", precision="float32")
    assert select_compute_format(wide, CPU) == best
    assert tried == [[FLOAT32_CONTIGUOUS, ComputeFormat("float32", "channels_last"), best]]
    assert select_compute_format(replace(wide, hidden_units=32), CPU) == FLOAT32_CONTIGUOUS
    assert select_compute_format(replace(wide, convolution="direct"), CPU) == FLOAT32_CONTIGUOUS
    assert not any(one.winograd for candidates in tried[1:] for one in candidates)
    forced = replace(wide, memory_format="contiguous", convolution="winograd")
    assert select_compute_format(forced, CPU) == ComputeFormat("float32", "contiguous", "winograd")


def test_emulated_bfloat16_is_not_even_tried(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: False)
    answer(monkeypatch, {FAST: 0.1})
    assert select_compute_format(config, CPU).precision == "float32"


def test_a_small_gain_is_no_reason() -> None:
    assert choose({FLOAT32_CONTIGUOUS: 1.0, FAST: 0.97}) == FLOAT32_CONTIGUOUS
    assert choose({FLOAT32_CONTIGUOUS: 1.0, FAST: 0.9}) == FAST


def test_the_measurement_is_one(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.random.get_rng_state()
    monkeypatch.setattr(precision, "_PROBE_SECONDS", 0.001)
    candidates = [FLOAT32_CONTIGUOUS, ComputeFormat("float32", "channels_last")]
    seconds = precision.measure(config, CPU, candidates)
    assert list(seconds) == candidates
    assert all(0 < time < 10 for time in seconds.values())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_machine_that_is_slow_for_a_while_is_slow_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One after the other, the first would be measured while it is slow and the second after it."""
    calls = iter(range(1000))

    def taking(seconds: float) -> Callable[[], float]:
        return lambda: seconds * (3 if next(calls) < 2 else 1)

    monkeypatch.setattr(precision, "_PROBE_SECONDS", 1.0)
    assert precision.time_interleaved([taking(0.2), taking(0.25)]) == [0.2, 0.25]
    assert next(calls) < 20, "it takes no longer than it is told to"
    assert precision.time_interleaved([taking(9.0)]) == [9.0]


def test_a_run_goes_on_in_what_it_began_with(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    run = replace(config, model_type="tinyvgg", max_images=100)
    begun = ComputeFormat("float32", "channels_last", "winograd")
    answer(monkeypatch, {begun: 0.1})
    trainer = Trainer(run, small_data, TrainerContext(checkpoint_dir=folder)).start()
    trainer.advance()
    trainer.save()
    answer(monkeypatch, {FLOAT32_CONTIGUOUS: 0.1})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert Trainer(run, small_data).start().compute_format == FLOAT32_CONTIGUOUS
    assert (
        Trainer(run, small_data, TrainerContext(checkpoint_dir=folder)).start().compute_format
        == begun
    )
