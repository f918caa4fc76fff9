"""Precision, memory format and convolution algorithm of a run, tuned once for a device."""

import hashlib
import json
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from src import models
from src.common import files
from src.common.errors import UserError
from src.common.paths import cache_dir, compute_format_file
from src.config import RunConfig
from src.cpu import fused_norm
from src.cpu.columns import ColumnsConv2d
from src.cpu.compiler import kernels_digest
from src.cpu.convolutions import replace_convolutions
from src.cpu.winograd import WinogradConv2d
from src.data.spec import CIFAR10, DataSpec
from src.training.compute_format import ComputeFormat
from src.training.device import device_name, has_fast_bfloat16, has_fast_float16, has_tf32
from src.training.model_setup import drops_dead_taps
from src.training.step_timing import measure

_WORTH_IT = 0.95  # largest share of the other's time at which a candidate wins


def select_compute_format(
    config: RunConfig, device: torch.device, data: DataSpec = CIFAR10
) -> ComputeFormat:
    """The compute format that `config` asks for; for auto, the fastest one on this device.

    It is measured once for an architecture and a device, in about a second, and kept in the
    user's cache folder. If several processes measure at once, the first to finish decides for all:
    two of them may measure different winners, and a resumed run must not change its arithmetic.
    data: what the model is for.
    """
    allowed = _candidates(config, device, data)
    if len(allowed) == 1:
        return allowed[0]
    file = _cache_file(_key(config, device, allowed, data))
    if file and (known := _known(file, allowed)):
        return known
    seconds = measure(config, device, allowed, data)
    fastest = choose(seconds)
    if file:
        with suppress(OSError):  # then it is measured again
            file.parent.mkdir(parents=True, exist_ok=True)
            record = _record(config, device, seconds, fastest)
            if not files.create_json(file, record):
                if known := _known(file, allowed):
                    return known
                files.write_json(file, record)  # the existing file is damaged
    return fastest


def allowed_precisions(config: RunConfig, device: torch.device) -> list[str]:
    """The precisions that `config` allows and that the device does well, the most precise first."""
    if config.precision != "auto":
        return [config.precision]
    fast = {"bfloat16": has_fast_bfloat16(device), "float16": has_fast_float16(device)}
    return ["float32", *[name for name, is_fast in fast.items() if is_fast][:1]]


def check_precision(config: RunConfig, device: torch.device) -> None:
    """Raise UserError if a device lacks the precision that a config asks for."""
    if config.precision == "tf32" and not has_tf32(device):
        raise UserError(
            f"--precision 'tf32': {device_name(device)} has no TF32; expected auto, float32, "
            "bfloat16 or float16"
        )


def _known(file: Path, allowed: list[ComputeFormat]) -> ComputeFormat | None:
    """The candidate that a file of the cache names. Returns None if it names none of them."""
    record = files.read_json(file) or {}
    for candidate in allowed:
        if record.get("fastest") == candidate.stored():
            return candidate
    return None


def choose(seconds: dict[ComputeFormat, float]) -> ComputeFormat:
    """The fastest candidate, or an earlier, more precise one unless the gain is clear."""
    best = next(iter(seconds))
    for candidate, time_taken in seconds.items():
        if time_taken < seconds[best] * _WORTH_IT:
            best = candidate
    return best


def _candidates(
    config: RunConfig, device: torch.device, data: DataSpec = CIFAR10
) -> list[ComputeFormat]:
    """Every compute format that the config and the device allow, the most precise first."""
    formats, algorithms = [config.memory_format], [config.convolution]
    if config.memory_format == "auto":
        formats = ["contiguous", "channels_last"] if _convolves(config, data) else ["contiguous"]
    if config.convolution == "auto":
        algorithms = ["direct"]
        if device.type == "cpu" and config.replaces_convolutions and _convolves(config, data):
            algorithms += _algorithms(config, data)
    fuses = device.type == "cpu" and "channels_last" in formats and _fuses_norms(config, data)
    return [
        ComputeFormat(
            precision,
            memory_format,
            algorithm,
            cudnn_benchmark=config.cudnn_benchmark and device.type == "cuda",
            fused_norm=fuses and memory_format == "channels_last",
        )
        for precision in allowed_precisions(config, device)
        for memory_format in formats
        for algorithm in algorithms
        if config.convolution != "auto" or _may_be_fastest(precision, memory_format, algorithm)
    ]


def _may_be_fastest(precision: str, memory_format: str, algorithm: str) -> bool:
    """Whether a candidate is worth a measurement."""
    if algorithm == "direct":
        return True
    if memory_format != "channels_last":
        return False
    if algorithm == "columns":  # which computes in bfloat16
        return precision == "bfloat16"
    return precision != "bfloat16"  # Winograd computes in float32


def _convolves(config: RunConfig, data: DataSpec) -> bool:
    """Whether the architecture has convolutions."""
    if config.is_external_model:  # code that may not work on the meta device
        with torch.random.fork_rng([]):
            return _has(models.build(config, data), nn.Conv2d)
    with torch.device("meta"):
        return _has(models.build(config, data), nn.Conv2d)


def _fuses_norms(config: RunConfig, data: DataSpec) -> bool:
    """Whether the architecture has batch norms that can be fused on this machine.

    Fused norms are used wherever possible: in every measurement they were faster.
    """
    if not config.replaces_convolutions or config.compile:
        return False
    with torch.device("meta"):
        norms = [
            module for module in models.build(config, data).modules() if fused_norm.suits(module)
        ]
    return bool(norms) and fused_norm.is_available()


def _algorithms(config: RunConfig, data: DataSpec) -> list[str]:
    """The algorithms, other than direct, that suit some convolutions of the architecture.

    Their input sizes are needed, and so a real model: on the meta device arithmetic imports sympy.
    """
    kinds = {"winograd": WinogradConv2d, "columns": ColumnsConv2d}
    with torch.random.fork_rng([]):
        plain = models.build(config, data)

    def replaced(algorithm: str) -> nn.Module:
        return replace_convolutions(deepcopy(plain), data.shape, algorithm=algorithm)

    return [name for name, module_class in kinds.items() if _has(replaced(name), module_class)]


def _has(model: nn.Module, module_class: type[nn.Module]) -> bool:
    return any(isinstance(module, module_class) for module in model.modules())


def _cache_file(key: str) -> Path | None:
    """The file of the cache for this key. Returns None without a home folder."""
    try:
        return compute_format_file(cache_dir(), key)
    except OSError:
        return None


def _key(
    config: RunConfig,
    device: torch.device,
    candidates: list[ComputeFormat],
    data: DataSpec = CIFAR10,
) -> str:
    asked = [
        config.model_name,
        models.options_of(config),
        device_name(device),
        torch.__version__,
        [candidate.stored() for candidate in candidates],
        *(_kernels(device) if config.cpu_kernels else ["no CPU kernels"]),
        *([] if data.shape == CIFAR10.shape else [data.shape]),
        *([config.model_digest] if config.model_digest else []),
        # the rest of the measured step, where it is not the default
        *([config.optimizer] if config.optimizer != RunConfig.optimizer else []),
        *([] if drops_dead_taps(config) else ["weights of padding"]),
        *([] if config.cuda_graphs else ["no CUDA graphs"]),
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:20]


def _kernels(device: torch.device) -> list[str]:
    return [kernels_digest()] if device.type == "cpu" else []


def _record(
    config: RunConfig,
    device: torch.device,
    seconds: dict[ComputeFormat, float],
    fastest: ComputeFormat,
) -> dict[str, Any]:
    return {
        "model_type": config.model_name,
        "device": device_name(device),
        "torch": torch.__version__,
        "fastest": fastest.stored(),
        "seconds": [
            {**compute_format.stored(), "seconds": time_taken}
            for compute_format, time_taken in seconds.items()
        ],
    }
