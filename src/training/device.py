"""The device that runs train on, its name and its abilities."""

import os
import platform
import re
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from src.common.errors import NodeFailure, UserError

# Hardware queues of a GPU, 8 unless set before CUDA starts: slots whose streams share a queue wait
# for each other. There are 32 at most, and as many streams of torch; further slots share them.
os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")

_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def versions(device: torch.device) -> dict[str, str]:
    """The versions of the software that a run is trained with."""
    by_name = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("torchvision", "numpy"):
        with suppress(PackageNotFoundError):
            by_name[name] = version(name)
    if device.type == "cuda":
        by_name["cuda"] = str(torch.version.cuda)
        with suppress(RuntimeError):  # raised for a GPU that this cuDNN no longer supports
            by_name["cudnn"] = str(torch.backends.cudnn.version())
        with suppress(OSError):
            by_name.update(driver_version(_NVIDIA_DRIVER.read_text()))
    return by_name


def driver_version(text: str) -> dict[str, str]:
    """{"driver": version} of the text of NVIDIA's driver; empty if it names none.

    It says "Kernel Module  550.54.14", or "Open Kernel Module for x86_64  580.65.06".
    """
    match = re.search(r"Kernel Module\D.*?(\d+\.[\d.]+)", text)
    return {"driver": match[1]} if match else {}


def pick_device(name: str) -> torch.device:
    """The device for 'auto', 'cpu', 'cuda' or 'cuda:N' on this machine.

    With a number it becomes the current GPU of this process. Raises UserError without a GPU, and
    NodeFailure where Slurm gave us one that cannot be used.
    """
    if name != "cpu" and not torch.cuda.is_available() and _was_given_gpu():
        node = os.environ.get("SLURMD_NODENAME", "")
        raise NodeFailure(f"node trouble on node {node}: no GPU of this job can be used")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {name!r}: this machine has no usable GPU; expected auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.index is not None:
        count = torch.cuda.device_count()
        if device.index >= count:
            known = ", ".join(f"cuda:{number}" for number in range(count))
            raise UserError(f"--device {name!r}: expected auto, cpu, cuda or one of {known}")
        torch.cuda.set_device(device)
    return device


def device_name(device: torch.device) -> str:
    """The name of a device; for a CPU with its number of threads, which affects results."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu x{torch.get_num_threads()} ({_cpu_model()})"


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is native. Emulated, it can be a hundred times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def has_fast_float16(device: torch.device) -> bool:
    """Whether float16 has fast matrix products: on GPUs since Volta."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def has_tf32(device: torch.device) -> bool:
    """Whether products of float32 can be rounded to TF32: on GPUs since Ampere."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def _was_given_gpu() -> bool:
    """Whether Slurm gave this job a GPU, and this machine has NVIDIA's driver (not a rehearsal)."""
    return bool(os.environ.get("SLURM_JOB_GPUS")) and _NVIDIA_DRIVER.exists()


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
