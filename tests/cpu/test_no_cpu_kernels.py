"""--no_cpu_kernels: training with PyTorch's own kernels only."""

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
from src.training.compute_format import ComputeFormat
from src.training.trainer import Trainer

CPU = torch.device("cpu")
CUSTOM_KERNELS = (WholeMapConv2d, WinogradConv2d)


@pytest.fixture
def allocator_calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Record calls that tell the allocator to keep freed memory."""
    calls: list[bool] = []
    monkeypatch.setattr(cuda_graphs, "keep_freed_memory", lambda: calls.append(True))
    return calls


def custom_kernels(trainer: Trainer) -> list[nn.Module]:
    return [
        module for module in trainer.learner.model.modules() if isinstance(module, CUSTOM_KERNELS)
    ]


def test_no_cpu_kernels_disables_all_custom_kernels(
    config: RunConfig, small_data: DeviceDataset, allocator_calls: list[bool]
) -> None:
    run = replace(config, model_type="resnet", max_images=20)
    enabled = Trainer(run, small_data).start()
    assert custom_kernels(enabled)
    assert type(enabled.learner.optimizer) is fast_optimizers.AdamW
    assert allocator_calls == [True]
    disabled = Trainer(replace(run, cpu_kernels=False), small_data).start()
    assert custom_kernels(disabled) == []
    assert type(disabled.learner.optimizer) is torch.optim.AdamW
    assert allocator_calls == [True]


def test_custom_kernels_match_pytorch_losses(config: RunConfig, small_data: DeviceDataset) -> None:
    """The losses are equal up to rounding, and the run id differs."""
    run = replace(config, model_type="resnet", max_images=40, num_epochs=1)
    run = replace(run, precision="float32", memory_format="contiguous")
    losses = []
    for one in (run, replace(run, cpu_kernels=False)):
        trainer = Trainer(one, small_data).start()
        while trainer.advance():
            pass
        losses.append(trainer.state.rows[0]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert run.id != replace(run, cpu_kernels=False).id


@pytest.mark.parametrize(("algorithm", "dtype"), [("winograd", "float32"), ("columns", "bfloat16")])
def test_no_cpu_kernels_excludes_own_algorithms(
    config: RunConfig, algorithm: str, dtype: str
) -> None:
    run = replace(config, model_type="cnn", precision=dtype)
    [one] = [one for one in precision._candidates(run, CPU) if one.convolution != "direct"]
    assert one == ComputeFormat(dtype, "channels_last", algorithm, fused_norm=True)
    disabled = replace(run, cpu_kernels=False)
    assert {(one.convolution, one.fused_norm) for one in precision._candidates(disabled, CPU)} == {
        ("direct", False)
    }
    with pytest.raises(InvalidValue, match="auto or direct with --no_cpu_kernels"):
        replace(disabled, convolution=algorithm)
    formats = [ComputeFormat("float32", "contiguous")]
    assert precision._key(run, CPU, formats) != precision._key(disabled, CPU, formats)


@pytest.mark.parametrize("flag", ["--no_cpu_kernels", "--no-cpu-kernels"])
def test_no_cpu_kernels_leaves_gomp_spincount_unset(flag: str) -> None:
    others = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import os, src; print(os.environ.get('GOMP_SPINCOUNT'))"
    words = [sys.executable, "-c", code]
    for flags, expected in (((), "20000"), ((flag,), "None")):
        done = subprocess.run(
            [*words, *flags], cwd=ROOT, env=others, check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == expected


def test_call_libc_ignores_missing_function() -> None:
    allocator.call_libc("no_such_function_of_any_libc", 1)
