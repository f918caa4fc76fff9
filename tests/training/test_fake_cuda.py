"""The tests of the GPU path run on an imitation of a GPU: tests/fake_cuda.py."""

import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils.data import DataLoader

from benchmarks import conventional, gpu, gpu_check, measure, reproduce
from src import main
from src.common import files
from src.common.errors import ExitStatus
from src.common.paths import ROOT
from src.config import RunConfig
from src.training.cuda_graphs import GraphRunner
from tests import fake_cuda, own_nets


def test_imitation_raises_what_a_gpu_raises() -> None:
    with fake_cuda.imitated():
        there = torch.ones(3, device="cuda")
        assert there.is_cuda
        assert (there + 1).device == fake_cuda.CUDA
        assert there.cpu().device.type == "cpu"
        assert torch.nn.Linear(2, 2).to("cuda").weight.is_cuda
        with pytest.raises(TypeError, match="to numpy"):
            there.numpy()
        with pytest.raises(RuntimeError, match="on the same device"):
            torch.add(there, torch.ones(3))
        graph = torch.cuda.CUDAGraph()
        with (
            pytest.raises(RuntimeError, match="capturing"),
            torch.cuda.graph(graph, None, None, capture_error_mode="thread_local"),
        ):
            there.sum().item()
    assert not torch.ones(1).is_cuda


def test_gpu_tests_pass_on_imitation(tmp_path: Path) -> None:
    """Warnings included, which pytest turns into errors."""
    words = ["-q", "-p", "tests.fake_cuda", "-p", "no:cacheprovider", "tests/training/test_gpu.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b4 passed, 1 skipped", done.stdout), done.stdout


def test_run_on_imitation_leaves_complete_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["-d", "synthetic", "-m", "cifar10net_3", "-e", "2", "-b", "50", "--max_images", "200"]
    with fake_cuda.imitated():
        status = main.main([*words, "-a", "--runs", str(tmp_path), "-q", "--wandb", "disabled"])
    assert status == ExitStatus.DONE
    [path] = tmp_path.glob("cifar10net_3/*/result.json")
    result = files.read_json(path) or {}
    assert result["device"] == fake_cuda.NAME
    assert result["epochs_run"] == 2


@pytest.mark.parametrize("is_capturable", [True, False])
def test_own_model_that_cannot_be_captured_trains_uncaptured_with_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_capturable: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = own_nets.SMALL.replace("SmallNet", "Net")
    if not is_capturable:
        text = text.replace("self.body(x)", "self.body(x) * (1.0 if x.sum().item() else 2.0)")
    own_nets.write(tmp_path, text)
    words = ["-d", "synthetic", "-m", "my_nets.py:Net", "-e", "1", "-b", "25", "--ema", "0.9"]
    words += ["--max_images", "100", "--precision", "float32", "--memory_format", "contiguous"]
    captured = []
    capture = GraphRunner._captured

    def counted(
        runner: GraphRunner, step: Callable[[int], None], size: int
    ) -> torch.cuda.CUDAGraph:
        captured.append(capture(runner, step, size))
        return captured[-1]

    monkeypatch.setattr(GraphRunner, "_captured", counted)
    with fake_cuda.imitated():
        status = main.main([*words, "--runs", str(tmp_path), "--wandb", "disabled"])
    assert status == ExitStatus.DONE
    [path] = tmp_path.glob("my_nets.Net/*/result.json")
    assert (files.read_json(path) or {})["epochs_run"] == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "without CUDA graphs" in line]
    assert len(lines) == (0 if is_capturable else 1)
    assert bool(captured) == is_capturable
    if not is_capturable:
        assert "which its model prevents: operation not permitted" in lines[0]


def test_gpu_check_finds_no_fault_on_imitation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu_check, "_SMALL", "cifar10net_3")
    monkeypatch.setattr(gpu_check, "_images", lambda model: 250)
    monkeypatch.setattr(gpu_check.Bench, "run", lambda bench: None)  # its products are too large
    config = gpu_check.check_config

    def with_fixed_layout(model: str) -> RunConfig:
        """Otherwise both are measured in float16 too, which takes minutes on a CPU."""
        return replace(config(model), memory_format="channels_last", convolution="direct")

    monkeypatch.setattr(gpu_check, "check_config", with_fixed_layout)
    words = ["--models", "cifar10net_3", "--steps", "4", "--minutes", "8"]
    with fake_cuda.imitated(fake_cuda.NEW):
        status = gpu_check.main([*words, "--out", str(tmp_path)])
    [path] = tmp_path.glob("gpu-check-*.json")
    rows = (files.read_json(path) or {})["measurements"]
    assert {row["verdict"] for row in rows} == {"ok"}, rows
    assert status == ExitStatus.DONE
    assert [row["check"] for row in rows].count("checkpoint") == 6
    agreements = [row for row in rows if row["check"] == "agreement"]
    assert {row["way"].split(",")[0] for row in agreements} == {
        "float32",
        "tf32",
        "bfloat16",
        "float16",
    }
    assert all(len(row["losses"]) == len(row["reference_losses"]) == 4 for row in agreements)


def test_gpu_check_counts_speeds_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(bench: gpu.Bench) -> None:
        bench._add("resnet", "a", 1, gpu.Measured(gpu.Timing(failure="out of memory")))
        bench._add("resnet", "b", 1, None, "skipped: no time left")
        raise RuntimeError("illegal memory access")

    monkeypatch.setattr(gpu_check.Bench, "run", fail)
    monkeypatch.setattr(gpu_check.GpuCheck, "_check", lambda *arguments: None)
    with fake_cuda.imitated():
        parsed = Namespace(models=["resnet"], minutes=1.0, steps=1, out=tmp_path)
        check = gpu_check.GpuCheck(fake_cuda.CUDA, parsed)
        check.run()
    assert (check.wrong, check.skipped) == (2, 1)
    assert "illegal memory access" in str(check.record.measurements[-1])


def test_bench_gpu_runs_on_imitation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every arm but those of torch.compile, which looks for a real GPU, and of float16."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(measure._CEILING_SIDES, "cuda", (64,))
    monkeypatch.setitem(gpu.GPU_BATCHES, "cifar10net", 10)
    monkeypatch.setattr(gpu, "_WARM_UP", 2)
    for name in ("compiled", "float16"):  # the latter takes half a minute on a CPU
        monkeypatch.delitem(gpu.VARIANTS, name)
    fixed = partial(gpu.run_config, memory_format="channels_last", convolution="direct")
    monkeypatch.setattr(gpu, "run_config", fixed)  # as above

    def in_this_process(*arguments: Any, **settings: Any) -> Any:
        """A loader that needs no driver, as pinned memory does."""
        kept = {"pin_memory": False, "num_workers": 0, "persistent_workers": False}
        return DataLoader(*arguments, **{**settings, **kept})

    monkeypatch.setattr(conventional, "DataLoader", in_this_process)
    words = ["--models", "cifar10net", "--slots", "2", "--seconds", "0.01"]
    with fake_cuda.imitated(fake_cuda.NEW):
        status = gpu.main([*words, "--processes", "--images", "1000", "--out", str(tmp_path)])
    [path] = tmp_path.glob("gpu-*.json")
    rows = (files.read_json(path) or {})["measurements"]
    assert status == ExitStatus.DONE, rows
    assert len(rows) == 6
    assert all(row["images/s"] > 0 for row in rows)


def test_reproduce_runs_on_imitation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = yaml.safe_load((ROOT / "run_config" / "cifar10net_optim.yaml").read_text())
    short = {**recipe, "num_epochs": 1, "max_images": 100}
    (tmp_path / "cifar10net_optim.yaml").write_text(yaml.safe_dump(short))
    words = ["-d", "synthetic", "--only", "cifar10net_optim", "--seeds", "2", "-q"]
    folders = ["--runs", tmp_path / "runs", "--recipes", tmp_path, "--out", tmp_path]
    with fake_cuda.imitated(fake_cuda.NEW):
        assert reproduce.main([*words, *map(str, folders)]) == ExitStatus.DONE
    [row] = (files.read_json(tmp_path / "reproduction.json") or {})["rows"]
    assert row["device"] == fake_cuda.NAME
    assert len(row["ours"]["best_val_accuracy"]) == 2
