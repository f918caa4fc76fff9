"""Benchmark commands end to end with small arguments, and their error messages."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks import accuracy, commands, cost, cpu, gpu, gpu_check, kernels, probe, processes
from benchmarks.measure import Arm, Duration, Interval
from benchmarks.ours import Ours
from benchmarks.workload import run_config
from src.common.errors import ExitStatus, UserError
from src.common.paths import ROOT
from src.data.dataset import Dataset
from src.data.device_dataset import DeviceDataset
from tests.conftest import RunCommand

TINY = ["--models", "cifar10net", "--images", "1000"]


def written_results(out: Path) -> dict[str, Any]:
    [path] = out.glob("*.json")
    assert path.with_suffix(".md").read_text().startswith(f"# {path.name.split('-')[0]}")
    value: dict[str, Any] = json.loads(path.read_text())
    return value


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable lead steps and shorten the warm-up."""
    monkeypatch.setattr("benchmarks.measure._LEAD_STEPS", 0)
    monkeypatch.setattr(gpu, "_WARM_UP", 1)
    monkeypatch.setattr(gpu, "ceiling", lambda *_: 100.0)
    monkeypatch.setattr(cpu, "ceiling", lambda *_: 100.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.usefixtures("quick")
def test_gpu_command_on_cpu(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--slots", "1", "2", "--processes", "1", "--seconds", "0.2"]
    assert gpu.main([*words, *TINY, "--out", str(tmp_path)]) == ExitStatus.DONE
    rows = {row["arm"]: row for row in written_results(tmp_path)["measurements"]}
    assert list(rows) == [
        gpu.CONVENTIONAL,
        gpu.EAGER,
        gpu.GRAPH,
        "ours, 1 slot",
        "ours, 2 slots",
        "ours, 1 process",
    ]
    assert rows[gpu.GRAPH]["note"] == "no graphs here"
    for name, row in rows.items():
        if name != gpu.GRAPH:
            assert row["images/s"] > 10, row
            assert row["x conventional"] == pytest.approx(
                row["images/s"] / rows[gpu.CONVENTIONAL]["images/s"]
            )
            assert row["share of ceiling"] == pytest.approx(row["images/s"] * 0.014126016 / 100)
    [path] = tmp_path.glob("*.json")
    assert cost.main([str(path)]) == ExitStatus.DONE
    assert colours_of(path.with_suffix(".png")) > 50


def test_commands_are_measured_without_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["--rounds", "1", "--runs", "3", "--out", str(tmp_path)]
    assert commands.main(words) == ExitStatus.DONE
    results = written_results(tmp_path)
    rows = [row["command"] for row in results["measurements"]]
    assert rows == ["submit, all done", "status", "aggregate"]
    said = "no Slurm cluster here: submit was measured with nothing to submit only"
    assert results["notes"]["Commands of large sweeps"] == [said]
    assert capsys.readouterr().err.startswith(f"{said}\n")


@pytest.mark.usefixtures("quick")
def test_failed_and_skipped_arms_are_rows_with_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: gpu.Bench, model: str, slots: int, **_: object) -> None:
        if slots == 2:
            self.end = 0
            raise torch.OutOfMemoryError
        raise ValueError("failure of the arm")

    monkeypatch.setattr(gpu.Bench, "_ours", fail)
    words = ["--device", "cpu", "--slots", "1", "2", "4", "--seconds", "0.05"]
    assert gpu.main([*words, *TINY, "--out", str(tmp_path)]) == ExitStatus.SOME_RUNS_FAILED
    notes = {row["arm"]: row["note"] for row in written_results(tmp_path)["measurements"]}
    assert notes == {
        gpu.CONVENTIONAL: "",
        gpu.EAGER: "ValueError: failure of the arm",
        gpu.GRAPH: "no graphs here",
        "ours, 1 slot": "ValueError: failure of the arm",
        "ours, 2 slots": "out of memory",
        "ours, 4 slots": "skipped: no time left",
        **{f"ours, {count} processes": "skipped: no time left" for count in (4, 8, 16)},
    }


@pytest.mark.usefixtures("quick")
def test_interrupted_benchmark_writes_measurements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: gpu.Bench, *_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu.Bench, "_ours", interrupt)
    words = ["--device", "cpu", "--seconds", "0.05"]
    assert gpu.main([*words, *TINY, "--out", str(tmp_path)]) == ExitStatus.STOPPED
    assert [row["arm"] for row in written_results(tmp_path)["measurements"]] == [gpu.CONVENTIONAL]


def test_train_together_raises_error_of_ended_process() -> None:
    with pytest.raises(RuntimeError, match="unknown argument '--none'"):
        processes.train_together(1, ["--none"], torch.device("cpu"), None, 60)


@pytest.mark.usefixtures("quick")
def test_cpu_command_measures_throughput_and_augmentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_arms(model: str, dataset: Dataset, data: DeviceDataset) -> dict[str, Arm]:
        settings = {"precision": "float32", "memory_format": "channels_last"}
        ours = Ours([run_config(model, 20, **settings, cpu_kernels=False)], data)
        fixed: dict[str, Arm] = {cpu.CONVENTIONAL: FixedSpeedArm(5), "x": FixedSpeedArm(15)}
        return {**fixed, cpu.OURS_FLOAT32: ours}

    monkeypatch.setattr(cpu, "build_arms", build_arms)
    words = ["--rounds", "2", "--seconds", "0.05", "--parts", "throughput", "augmentation"]
    assert cpu.main([*words, *TINY, "--out", str(tmp_path)]) == ExitStatus.DONE
    value = written_results(tmp_path)
    rates = {row["arm"]: row["images/s"] for row in value["measurements"] if "arm" in row}
    assert (rates[cpu.CONVENTIONAL], rates["x"]) == (5, 15)
    assert rates[cpu.OURS_FLOAT32] > 5
    [trained] = [row for row in value["measurements"] if row.get("arm") == cpu.OURS_FLOAT32]
    assert trained["note"].endswith(" steps, float32, channels last, direct")
    ours = next(row for row in value["measurements"] if row.get("how", "").startswith("ours"))
    assert ours["ratio"] > 1
    assert value["machine"]["threads"] == torch.get_num_threads()


@pytest.mark.usefixtures("quick")
def test_cost_is_measured_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "_BATCHES", (16, 32))
    monkeypatch.setattr(cost, "_CHANNELS", (4, 8))
    monkeypatch.setattr(cost, "_COUNTS", (1, 2))
    words = ["--models", "cifar10net", "tinyvgg", "--rounds", "1", "--seconds", "0.05"]
    words += ["--images", "1000", "--parts", "cost", "--out", str(tmp_path)]
    assert cpu.main(words) == ExitStatus.DONE
    rows = written_results(tmp_path)["measurements"]
    values = [(row["model"], row["with"], row["value"]) for row in rows]
    assert values[:2] == [("cifar10net", "batch", 16), ("cifar10net", "batch", 32)]
    assert values[4:] == [("cifar10net", "runs in a process", count) for count in (1, 2)]
    small, large = (value for _, what, value in values if what == "GFLOP an image")
    assert 0 < small < large
    [picture] = tmp_path.glob("*.png")
    assert colours_of(picture) > 50


def test_picture_of_committed_results_is_drawn_again(tmp_path: Path) -> None:
    [*results] = cpu.RESULTS.glob("cpu-*.json")
    assert results
    for path in results:
        copy = tmp_path / path.name
        copy.write_text(path.read_text())
        assert cost.main([str(copy)]) == ExitStatus.DONE
        assert colours_of(copy.with_suffix(".png")) > 50


def test_picture_needs_results(tmp_path: Path, expect_bad_input: Callable[..., str]) -> None:
    for text in ("[]", "{", '{"measurements": []}'):
        (tmp_path / "cpu.json").write_text(text)
        error = expect_bad_input(cost.main, tmp_path / "cpu.json")
        assert "cpu.json: expected a JSON file of make bench" in error


def colours_of(picture: Path) -> int:
    """Return the number of different colours of a picture."""
    with Image.open(picture) as image:
        return len(image.convert("RGB").getcolors(2**24) or [])


def test_kernels_command_measures_every_replaced_layer(tmp_path: Path) -> None:
    words = ["--models", "resnet", "--batch", "4", "--rounds", "1", "--out", str(tmp_path)]
    assert kernels.main(words) == ExitStatus.DONE
    rows = written_results(tmp_path)["measurements"]
    kinds = [row["kernel"] for row in rows]
    assert kinds.count("WholeMapConv2d") == 7
    assert kinds.count("PointwiseConv2d") == 2
    assert kinds.count("FusedNorm") == 20
    assert all(row["PyTorch ms"] > 0 < row["ours ms"] for row in rows)
    [first] = [row for row in rows if row["layer"] == "stem.1"]
    assert first["input"] == "4x64x16x16"


class FixedSpeedArm:
    """An arm with a fixed speed in images per second."""

    def __init__(self, rate: int) -> None:
        self.rate = rate

    def measure(self, duration: Duration) -> Interval:
        return Interval(self.rate, 1.0, 1)

    def loss(self) -> float:
        return 0.0

    def close(self) -> None:
        pass


def test_cpu_command_measures_startup_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["--rounds", "1", "--runs", "2", "--parts", "startup", "memory"]
    assert cpu.main([*words, *TINY, "--out", str(tmp_path)]) == ExitStatus.DONE
    rows = {row["what"]: row for row in written_results(tmp_path)["measurements"]}
    stages = [row["seconds"] for what, row in rows.items() if what.startswith("of it")]
    whole = rows["from the start of the process to the end of the first step"]["seconds"]
    assert sum(stages) == pytest.approx(whole, abs=0.01)
    state = rows["weights and optimizer state of one such run"]["MiB"]
    assert state == pytest.approx(4 * 4 * 201_230 / 2**20, abs=0.1)
    [after] = [row["every"] for row in rows.values() if "after run 2" in row["what"]]
    assert len(after) == 2


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (cpu.main, ["--models", "vitt"], "--models 'vitt': expected some of"),
        (cpu.main, ["--parts", "all"], "--parts 'all': expected some of throughput"),
        (cpu.main, ["--second", "3"], "unknown argument '--second'; did you mean --seconds"),
        (gpu_check.main, ["--models", "a:B"], "argument --models: invalid choice: 'a:B'"),
        (gpu.main, ["--seconds", "0"], "--seconds: '0': expected a number above 0"),
        (gpu.main, ["--slots", "0"], "--slots: '0': expected a whole number above 0"),
        (accuracy.main, ["--arms", "auto"], "--arms 'auto': expected some of float32, winograd"),
        (probe.main, ["this"], "'this': expected one of first-step, peak"),
    ],
)
def test_bad_arguments_raise_user_error(
    main: Callable[[Sequence[str]], ExitStatus], words: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        main(words)


def test_bad_argument_gives_one_line_and_status_2(command: RunCommand) -> None:
    completed = command("python", "-m", "benchmarks.gpu", "--device", "tpu", check=2)
    assert completed.stderr.startswith("error: argument --device: invalid choice: 'tpu'")
    assert len(completed.stderr.splitlines()) == 1


def test_accuracy_command_compares_arms(command: RunCommand, tmp_path: Path) -> None:
    words = ["-d", "synthetic", "--model", "cifar10net", "--max_images", "100", "-q"]
    words += ["--seeds", "2", "--epochs", "1", "--arms", "float32", "winograd"]
    words += [
        "--batch_size",
        "50",
        "--runs",
        str(tmp_path / "runs"),
        "--out",
        str(tmp_path / "out"),
    ]
    before = [*(ROOT / "runs").rglob("*")]
    completed = command("python", "-m", "benchmarks.accuracy", *words)
    assert "float32 | 2 | " in completed.stdout
    direct, winograd = written_results(tmp_path / "out")["measurements"]
    assert len(direct["accuracies"]) == len(winograd["accuracies"]) == 2
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("result.json")]
    assert sorted(direct["losses"] + winograd["losses"]) == sorted(
        result["train_loss"] for result in results
    )
    assert sorted(result["convolution"] for result in results) == ["direct"] * 2 + ["winograd"] * 2
    assert [*(ROOT / "runs").rglob("*")] == before
