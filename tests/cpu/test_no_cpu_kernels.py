"""--no_cpu_kernels: PyTorch alone computes, for whoever doubts a result."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from src.common.errors import InvalidValue
from src.common.paths import ROOT
from src.config import RunConfig
from src.cpu import allocator, fast_optimizers
from src.cpu.whole_map import WholeMapConv2d
from src.cpu.winograd import WinogradConv2d
from src.data.device_dataset import DeviceDataset
from src.training import cuda_graphs, precision
from src.training.precision import ComputeFormat
from src.training.trainer import Trainer

CPU = torch.device("cpu")
OURS = (WholeMapConv2d, WinogradConv2d)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows when a run asks the allocator to keep memory."""
    calls: list[bool] = []
    monkeypatch.setattr(cuda_graphs, "keep_freed_memory", lambda: calls.append(True))
    return calls


def kernels(trainer: Trainer) -> list[nn.Module]:
    return [module for module in trainer.learner.model.modules() if isinstance(module, OURS)]


def test_off_none_of_them_is_used(
    config: RunConfig, small_data: DeviceDataset, kept: list[bool]
) -> None:
    run = replace(config, model_type="resnet", max_images=20)
    on = Trainer(run, small_data).start()
    assert kernels(on)
    assert type(on.learner.optimizer) is fast_optimizers.AdamW
    assert kept == [True]
    off = Trainer(replace(run, cpu_kernels=False), small_data).start()
    assert kernels(off) == []
    assert type(off.learner.optimizer) is torch.optim.AdamW
    assert kept == [True]


def test_off_the_results_are_those_of_pytorch(config: RunConfig, small_data: DeviceDataset) -> None:
    """The same numbers up to rounding, under an id of their own."""
    run = replace(config, model_type="resnet", max_images=40, num_epochs=1)
    run = replace(run, precision="float32", memory_format="contiguous")
    losses = []
    for one in (run, replace(run, cpu_kernels=False)):
        trainer = Trainer(one, small_data)
        while trainer.advance():
            pass
        losses.append(trainer.state.rows[0]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert run.id != replace(run, cpu_kernels=False).id


def test_off_winograd_is_no_candidate(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    run = replace(config, model_type="cnn", precision="float32")
    assert any(one.winograd for one in precision._candidates(run, CPU))
    off = replace(run, cpu_kernels=False)
    assert not any(one.winograd for one in precision._candidates(off, CPU))
    with pytest.raises(InvalidValue, match="auto or direct with --no_cpu_kernels"):
        replace(off, convolution="winograd")
    formats = [ComputeFormat("float32", "contiguous")]
    assert precision._key(run, CPU, formats) != precision._key(off, CPU, formats)


@pytest.mark.parametrize("flag", ["--no_cpu_kernels", "--no-cpu-kernels"])
def test_off_threads_wait_as_openmp_has_it(flag: str) -> None:
    others = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import os, src; print(os.environ.get('GOMP_SPINCOUNT'))"
    words = [sys.executable, "-c", code]
    for further, expected in (((), "20000"), ((flag,), "None")):
        done = subprocess.run(
            [*words, *further], cwd=ROOT, env=others, check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == expected


def test_a_library_without_the_function_is_left_alone() -> None:
    allocator.call_libc("no_such_function_of_any_libc", 1)
