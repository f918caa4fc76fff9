"""Choice of the compute format: measured once, cached, and overridden by flags."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from src import data
from src.common.errors import UserError
from src.config import RunConfig
from src.cpu.whole_map import WholeMapConv2d
from src.data.dataset import Dataset
from src.data.device_dataset import DeviceDataset
from src.run import run as run_configs
from src.training import precision, step_timing
from src.training.compute_format import ComputeFormat
from src.training.model_setup import build_model
from src.training.precision import choose, select_compute_format
from src.training.trainer import Trainer, TrainerContext

CPU = torch.device("cpu")
FLOAT32_CONTIGUOUS = ComputeFormat("float32", "contiguous")
FAST = ComputeFormat("bfloat16", "channels_last")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
    monkeypatch.setattr(precision.fused_norm, "is_available", lambda: False)
    return tmp_path / "cache"


def fake_measurement(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[ComputeFormat, float]
) -> list[str]:
    """Fake the measured `seconds`; return the list of models measured so far."""
    measured_models: list[str] = []

    def measure(
        config: RunConfig, device: object, candidates: list[ComputeFormat], spec: object
    ) -> object:
        measured_models.append(config.model_type)
        return {candidate: seconds.get(candidate, 1.0) for candidate in candidates}

    monkeypatch.setattr(precision, "measure", measure)
    return measured_models


def test_fastest_format_is_selected_and_cached(
    config: RunConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_models = fake_measurement(monkeypatch, {FAST: 0.4})
    assert [select_compute_format(config, CPU) for _ in range(3)] == [FAST] * 3
    assert select_compute_format(replace(config, seed=5, batch_size=7), CPU) == FAST
    assert measured_models == ["cifar10net"]
    select_compute_format(replace(config, model_type="resnet"), CPU)
    assert measured_models == ["cifar10net", "resnet"]
    [cached] = [
        json.loads(path.read_text())
        for path in cache.rglob("*.json")
        if "cifar10net" in path.read_text()
    ]
    assert cached["fastest"] == {
        "precision": "bfloat16",
        "memory_format": "channels_last",
        "convolution": "direct",
    }
    assert len(cached["seconds"]) == 4


def test_damaged_cache_file_is_measured_again(
    config: RunConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_models = fake_measurement(monkeypatch, {FAST: 0.4})
    select_compute_format(config, CPU)
    for text in ("{", '{"fastest": {"precision": "float8", "memory_format": "contiguous"}}'):
        [file] = cache.rglob("*.json")
        file.write_text(text)
        assert select_compute_format(config, CPU) == FAST
    assert len(measured_models) == 3


def test_measured_again_when_the_kernels_change(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A faster kernel may make another candidate the fastest."""
    measured_models = fake_measurement(monkeypatch, {FAST: 0.4})
    without = replace(config, cpu_kernels=False)
    for digest in ("of the old kernels", "of the new kernels"):
        monkeypatch.setattr(precision, "kernels_digest", lambda digest=digest: digest)
        for one in (config, without):
            assert select_compute_format(one, CPU) == FAST
    assert len(measured_models) == 3  # what uses no kernel, once


def test_first_of_concurrent_measurements_wins(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs of one array start together, and noise may make their measurements differ."""
    other_process: list[ComputeFormat] = []

    def measure(
        _: RunConfig, __: object, candidates: list[ComputeFormat], ___: object
    ) -> dict[ComputeFormat, float]:
        fastest = FLOAT32_CONTIGUOUS
        if not other_process:
            other_process.append(FAST)
            other_process[0] = select_compute_format(
                config, CPU
            )  # another process finishes during this measurement
            fastest = FAST
        return {candidate: 0.4 if candidate == fastest else 1.0 for candidate in candidates}

    monkeypatch.setattr(precision, "measure", measure)
    assert select_compute_format(config, CPU) == other_process[0] == FLOAT32_CONTIGUOUS
    assert select_compute_format(config, CPU) == FLOAT32_CONTIGUOUS


def test_unwritable_cache_is_measured_each_time(
    config: RunConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder should be")
    measured_models = fake_measurement(monkeypatch, {FAST: 0.4})
    assert [select_compute_format(config, CPU) for _ in range(2)] == [FAST] * 2
    assert len(measured_models) == 2


def test_precision_and_memory_format_flags_override_measurement(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_models = fake_measurement(monkeypatch, {FAST: 0.4})
    run = replace(config, precision="float32", memory_format="contiguous")
    assert select_compute_format(run, CPU) == FLOAT32_CONTIGUOUS
    assert measured_models == []
    half = select_compute_format(replace(config, precision="float32"), CPU)
    assert half.precision == "float32"
    assert (
        select_compute_format(replace(config, memory_format="contiguous"), CPU)
        == FLOAT32_CONTIGUOUS
    )
    vit = select_compute_format(replace(config, model_type="vit", precision="bfloat16"), CPU)
    assert vit == ComputeFormat("bfloat16", "contiguous")  # vit has no convolutions


def test_winograd_is_candidate_only_for_wide_models(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = ComputeFormat("float32", "channels_last", "winograd")
    tried: list[list[ComputeFormat]] = []

    def measure(
        _: RunConfig, __: object, candidates: list[ComputeFormat], ___: object
    ) -> dict[ComputeFormat, float]:
        tried.append(candidates)
        return {candidate: 0.4 if candidate == best else 1.0 for candidate in candidates}

    monkeypatch.setattr(precision, "measure", measure)
    wide = replace(config, model_type="tinyvgg", precision="float32")
    assert select_compute_format(wide, CPU) == best
    assert tried == [[FLOAT32_CONTIGUOUS, ComputeFormat("float32", "channels_last"), best]]
    assert select_compute_format(replace(wide, hidden_units=32), CPU) == FLOAT32_CONTIGUOUS
    assert select_compute_format(replace(wide, convolution="direct"), CPU) == FLOAT32_CONTIGUOUS
    assert {one.convolution for candidates in tried[1:] for one in candidates} == {"direct"}
    forced = replace(wide, memory_format="contiguous", convolution="winograd")
    assert select_compute_format(forced, CPU) == ComputeFormat("float32", "contiguous", "winograd")


def test_emulated_bfloat16_is_no_candidate(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: False)
    fake_measurement(monkeypatch, {FAST: 0.1})
    assert select_compute_format(config, CPU).precision == "float32"


def test_gain_below_threshold_keeps_default_format() -> None:
    assert choose({FLOAT32_CONTIGUOUS: 1.0, FAST: 0.97}) == FLOAT32_CONTIGUOUS
    assert choose({FLOAT32_CONTIGUOUS: 1.0, FAST: 0.9}) == FAST


def test_measure_times_candidates_and_preserves_random_state(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.random.get_rng_state()
    monkeypatch.setattr(step_timing, "_PROBE_SECONDS", 0.001)
    candidates = [FLOAT32_CONTIGUOUS, ComputeFormat("float32", "channels_last")]
    seconds = step_timing.measure(config, CPU, candidates)
    assert list(seconds) == candidates
    assert all(0 < time < 10 for time in seconds.values())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_measured_model_is_the_one_that_is_trained(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weight decay of SGD reaches weights of padding, so that fewer layers are replaced."""
    config = RunConfig(model_type="resnet", optimizer=optimizer, precision="float32")
    measured: list[list[type]] = []

    def record(model: torch.nn.Module, *_: object) -> Callable[[], None]:
        measured.append([type(module) for module in model.modules()])
        return lambda: None

    monkeypatch.setattr(step_timing, "_step", record)
    monkeypatch.setattr(step_timing, "time_interleaved", lambda steps: [1.0] * len(steps))
    step_timing.measure(config, CPU, [FLOAT32_CONTIGUOUS])
    trained = build_model(config, CPU, FLOAT32_CONTIGUOUS)
    assert measured[0] == [type(module) for module in trained.modules()]
    assert WholeMapConv2d in measured[0]


def test_interleaved_timing_is_robust_to_slow_phases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interleaved timing: a slow phase of the machine affects all candidates alike."""
    calls = iter(range(1000))

    def step_taking(seconds: float) -> Callable[[], float]:
        return lambda: seconds * (3 if next(calls) < 2 else 1)

    monkeypatch.setattr(step_timing, "_PROBE_SECONDS", 1.0)
    assert step_timing.time_interleaved([step_taking(0.2), step_taking(0.25)]) == [0.2, 0.25]
    assert next(calls) < 20, "the time limit must be respected"
    assert step_timing.time_interleaved([step_taking(9.0)]) == [9.0]


def test_resumed_run_keeps_its_first_compute_format(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    run = replace(config, model_type="tinyvgg", max_images=100)
    first_format = ComputeFormat("float32", "channels_last", "winograd")
    fake_measurement(monkeypatch, {first_format: 0.1})
    trainer = Trainer(run, small_data, TrainerContext(checkpoint_dir=folder)).start()
    trainer.advance()
    trainer.save()
    fake_measurement(monkeypatch, {FLOAT32_CONTIGUOUS: 0.1})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert Trainer(run, small_data).start().compute_format == FLOAT32_CONTIGUOUS
    assert (
        Trainer(run, small_data, TrainerContext(checkpoint_dir=folder)).start().compute_format
        == first_format
    )


def test_float16_scales_its_loss_and_resumes_bitwise(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    """On a CPU, where float16 is slow but the same: the scale is part of the checkpoint."""
    run = replace(config, precision="float16", num_epochs=2, max_images=100, batch_size=25)
    uninterrupted = train_to_end(Trainer(run, small_data).start())
    trainer = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    while trainer.state.step < 3:
        trainer.advance()
    scaler = trainer.learner.scaler
    assert scaler
    scale = scaler.get_scale()
    trainer.save()
    trainer.stop()
    resumed = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    assert resumed.learner.scaler
    assert resumed.learner.scaler.get_scale() == scale
    assert resumed.learner.scaler._growth_tracker is not None or scale
    train_to_end(resumed)
    for row, other in zip(uninterrupted.state.rows, resumed.state.rows, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    assert uninterrupted.trained
    assert uninterrupted.trained.numbers["precision"] == "float16"


def test_float16_step_with_overflow_changes_nothing_but_the_scale(
    config: RunConfig, small_data: DeviceDataset
) -> None:
    run = replace(config, precision="float16", max_images=100, batch_size=25)
    trainer = Trainer(run, small_data).start()
    trainer.advance()
    learner = trainer.learner
    assert learner.scaler
    learner.scaler._scale.fill_(2.0**100)  # type: ignore[union-attr]
    before = [parameter.detach().clone() for parameter in learner.model.parameters()]
    trainer.advance()
    assert learner.scaler.get_scale() == 2.0**99
    for parameter, old in zip(learner.model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


def train_to_end(trainer: Trainer) -> Trainer:
    while trainer.advance():
        pass
    return trainer


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((9, 0), {"float32", "bfloat16"}),
        ((7, 5), {"float32", "float16"}),
        ((6, 1), {"float32"}),
    ],
)
def test_auto_considers_what_the_gpu_does_fast(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: set[str]
) -> None:
    """float16 before Ampere, whose bfloat16 is emulated; nothing that changes bits unasked."""
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: capability >= (8, 0))
    candidates = precision._candidates(RunConfig(), gpu)
    assert {candidate.precision for candidate in candidates} == expected
    assert not any(candidate.cudnn_benchmark for candidate in candidates)
    asked = precision._candidates(RunConfig(cudnn_benchmark=True), gpu)
    assert all(candidate.cudnn_benchmark for candidate in asked)
    assert not precision._candidates(RunConfig(cudnn_benchmark=True), CPU)[0].cudnn_benchmark


def test_backend_settings_are_set_for_a_step_on_a_gpu_and_restored() -> None:
    def settings() -> tuple[str, str, bool]:
        backends = torch.backends
        return (
            backends.cuda.matmul.fp32_precision,
            backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
            backends.cudnn.benchmark,
        )

    before = settings()
    for compute_format, expected in {
        FLOAT32_CONTIGUOUS: ("ieee", "ieee", False),
        ComputeFormat("tf32", "contiguous"): ("tf32", "tf32", False),
        ComputeFormat("bfloat16", "contiguous", "direct", True): ("ieee", "ieee", True),
    }.items():
        with compute_format.backend_settings(torch.device("cuda")):
            assert settings() == expected
        assert settings() == before
        with compute_format.backend_settings(CPU):
            assert settings() == before


def test_tf32_is_refused_where_there_is_none(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_dataset: Dataset
) -> None:
    monkeypatch.setattr(data, "load", lambda path, name: small_dataset)
    with pytest.raises(UserError, match=r"--precision 'tf32': cpu .* has no TF32; expected auto"):
        run_configs([replace(config, precision="tf32")], tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_cudnn_benchmark_is_part_of_recorded_arithmetic(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    """A resume keeps it, though the settings of the run no longer ask for it."""
    run = replace(config, max_images=100)
    trainer = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    trainer._started.compute_format = measured = ComputeFormat(
        "float32", "contiguous", "direct", True
    )
    trainer.advance()
    trainer.save()
    trainer.stop()
    assert trainer.start().compute_format == measured
    assert ComputeFormat("float32", "contiguous").stored() == {
        **{"precision": "float32", "memory_format": "contiguous", "convolution": "direct"}
    }, "files of before, and workers of before, know three fields"
    assert replace(run, cudnn_benchmark=True).id != run.id
    assert "cudnn_benchmark" not in run.stored()
