"""Precision, memory format and convolution algorithm of a run, tuned once for a device."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from src import models
from src.common import files
from src.common.errors import UserError
from src.common.model_source import reference_of
from src.common.paths import cache_dir, compute_format_file
from src.config import RunConfig
from src.cpu import fused_norm
from src.cpu.columns import ColumnsConv2d
from src.cpu.compiler import kernels_digest
from src.cpu.convolutions import replace_convolutions
from src.cpu.winograd import WinogradConv2d
from src.data.spec import CIFAR10, DataSpec
from src.training.cuda_graphs import GraphRunner
from src.training.device import device_name, has_fast_bfloat16, has_fast_float16, has_tf32
from src.training.optimizers import build_optimizer, rate_tensor

_PROBE_BATCHES = {"cpu": (16, 32, 64), "cuda": (256,)}
_WARM_UP_STEPS = {"cpu": 1, "cuda": 4}
"""The first step is slower; on a GPU the third one is captured, and the fourth the first replay."""
_LONG_STEP = 0.25  # seconds per step at which the batch is not enlarged further
_PROBE_SECONDS = 0.3  # for each candidate, after a warm-up; at least one step of each
_WORTH_IT = 0.95  # largest share of the other's time at which a candidate wins

_DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class ComputeFormat:
    """How a model computes: autocast to `precision`, not for float32 and tf32, and `memory_format`.

    convolution: direct, or winograd or columns for the convolutions that these suit (with
    channels_last).
    cudnn_benchmark: whether cuDNN measures its algorithms. fused_norm: whether batch norm,
    activation and max-pool are one operation (with channels_last, on a CPU).
    """

    precision: str
    memory_format: str
    convolution: str = "direct"
    cudnn_benchmark: bool = False
    fused_norm: bool = False

    def stored(self) -> dict[str, Any]:
        """The fields for a file; later ones only where they are not at their default."""
        return {name: value for name, value in asdict(self).items() if value is not False}

    def __str__(self) -> str:
        """In words: bfloat16, channels last, direct, fused norm."""
        parts = [name if value is True else value for name, value in self.stored().items()]
        return ", ".join(parts).replace("_", " ")

    @property
    def dtype(self) -> torch.dtype:
        """The autocast type."""
        return _DTYPES[self.precision]

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which models compute on `device`."""
        return torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32)

    @contextmanager
    def backend_settings(self, device: torch.device) -> Iterator[None]:
        """Set PyTorch's global switches for TF32 and cuDNN, for a whole step: backward reads them.

        Slots of one process may differ in them, so that they are set at every step. A captured
        step keeps those of its capture. The context does nothing on a CPU.
        """
        if device.type != "cuda":
            yield
            return
        backends = torch.backends
        before = (
            backends.cuda.matmul.fp32_precision,
            backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
            backends.cudnn.benchmark,
        )
        products = "tf32" if self.precision == "tf32" else "ieee"
        try:
            _set_backends(products, products, self.cudnn_benchmark)
            yield
        finally:
            _set_backends(*before)

    def to_memory_format(self, batch: Tensor) -> Tensor:
        """A batch of images in the memory format; features (B, F) as they are."""
        return batch.contiguous(memory_format=self.layout) if batch.dim() == 4 else batch

    @property
    def layout(self) -> torch.memory_format:
        """The memory format of images and convolution weights."""
        return _FORMATS[self.memory_format]


def _set_backends(products: str, convolutions: str, benchmark: bool) -> None:
    torch.backends.cuda.matmul.fp32_precision = products
    torch.backends.cudnn.conv.fp32_precision = convolutions  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = benchmark


FLOAT32_CONTIGUOUS = ComputeFormat("float32", "contiguous")


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
            if not files.write_once(file, files.to_json(record).encode()):
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


def measure(
    config: RunConfig,
    device: torch.device,
    candidates: list[ComputeFormat],
    data: DataSpec = CIFAR10,
) -> dict[ComputeFormat, float]:
    """Seconds of a training step of the architecture, for each candidate.

    Of an architecture that is not of this project, without candidates in which it cannot compute.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        plain = models.build(config, data)

        def step_of(candidate: ComputeFormat, batch: int) -> Callable[[], float]:
            model = deepcopy(plain)
            if config.replaces_convolutions:
                model = replace_convolutions(model, data.shape, algorithm=candidate.convolution)
            if candidate.fused_norm:
                fused_norm.fuse_norms(model)
            step = _step(model.to(device), config, device, candidate, batch, data)
            for _ in range(_WARM_UP_STEPS[device.type]):
                step()
            return lambda: _seconds(step)

        for batch in _PROBE_BATCHES[device.type]:
            first = step_of(candidates[0], batch)
            if first() > _LONG_STEP:
                break
        steps = {candidates[0]: first}
        for candidate in candidates[1:]:
            try:
                steps[candidate] = step_of(candidate, batch)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # such as view() on channels_last, in code of unknown structure
                if reference_of(config.model_type) is None:
                    raise
        return dict(zip(steps, time_interleaved(list(steps.values())), strict=True))


def time_interleaved(steps: list[Callable[[], float]]) -> list[float]:
    """The least time that each of `steps` returns, all called in turn for _PROBE_SECONDS each.

    In turn, so that a slow spell of the machine affects all candidates alike.
    """
    rounds = [[step() for step in steps]]
    while sum(map(sum, rounds)) < _PROBE_SECONDS * len(steps):
        rounds.append([step() for step in steps])
    return [min(times) for times in zip(*rounds, strict=True)]


def _candidates(
    config: RunConfig, device: torch.device, data: DataSpec = CIFAR10
) -> list[ComputeFormat]:
    """Every compute format that the config and the device allow, the most precise first."""
    precisions = allowed_precisions(config, device)
    formats, ways = [config.memory_format], [config.convolution]
    if config.memory_format == "auto":
        formats = ["contiguous", "channels_last"] if _convolves(config, data) else ["contiguous"]
    if config.convolution == "auto":
        ways = ["direct"]
        if device.type == "cpu" and config.replaces_convolutions and _convolves(config, data):
            ways += _algorithms(config, data)
    fuses = device.type == "cpu" and "channels_last" in formats and _fuses_norms(config, data)
    return [
        one
        for one in (
            ComputeFormat(
                *parts,
                cudnn_benchmark=config.cudnn_benchmark and device.type == "cuda",
                fused_norm=fuses and parts[1] == "channels_last",
            )
            for parts in product(precisions, formats, ways)
        )
        if config.convolution != "auto" or _is_sensible(one)
    ]


def _is_sensible(candidate: ComputeFormat) -> bool:
    """Whether a candidate may be the fastest: columns computes in bfloat16, winograd in float32."""
    if candidate.convolution == "direct":
        return True
    of_columns = candidate.convolution == "columns"
    return candidate.memory_format == "channels_last" and of_columns == (
        candidate.precision == "bfloat16"
    )


def _convolves(config: RunConfig, data: DataSpec) -> bool:
    """Whether the architecture has convolutions."""
    if reference_of(config.model_type):  # code that may not work on the meta device
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
        norms = [one for one in models.build(config, data).modules() if fused_norm.suits(one)]
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

    return [name for name, kind in kinds.items() if _has(replaced(name), kind)]


def _has(model: nn.Module, kind: type[nn.Module]) -> bool:
    return any(isinstance(module, kind) for module in model.modules())


def _step(
    model: nn.Module,
    config: RunConfig,
    device: torch.device,
    compute_format: ComputeFormat,
    batch: int,
    data: DataSpec,
) -> Callable[[], None]:
    """A training step on random images, as it runs: captured on a GPU, with the optimizer."""
    model.to(memory_format=compute_format.layout)
    images = torch.randn(batch, *data.shape, device=device)
    images = images.to(memory_format=compute_format.layout)
    labels = torch.arange(batch, device=device) % len(data.classes)
    optimizer = build_optimizer(config, model, rate_tensor(device))
    is_unknown = reference_of(config.model_type) is not None
    runner = GraphRunner(
        device,
        graphs=config.cuda_graphs,
        keep_memory=False,
        on_uncaptured=(lambda why: optimizer.zero_grad()) if is_unknown else None,
    )

    def train(size: int) -> None:
        with compute_format.autocast(device):
            logits = model(images)
        cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    def step() -> None:
        with runner.activated(), compute_format.backend_settings(device):
            runner.run_step("probe", train, batch)
        runner.synchronize()

    return step


def _seconds(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


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
        "seconds": [{**one.stored(), "seconds": time_taken} for one, time_taken in seconds.items()],
    }
