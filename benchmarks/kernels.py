"""The kernels of src/cpu/ against PyTorch's, layer by layer: python -m benchmarks.kernels"""

import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.record import RESULTS, Record
from benchmarks.workload import known_models, run_config
from src import models
from src.cli.arguments import Parser, positive_int
from src.cli.entry_point import run_main
from src.common.errors import ExitStatus
from src.cpu.allocator import keep_freed_memory
from src.cpu.columns import ColumnsConv2d
from src.cpu.convolutions import replace_convolutions
from src.cpu.fused_norm import FusedNorm, fuse_norms
from src.cpu.pointwise import PointwiseConv2d
from src.cpu.whole_map import WholeMapConv2d
from src.cpu.winograd import WinogradConv2d
from src.data.spec import CIFAR10
from src.training.device import has_fast_bfloat16

CPU = torch.device("cpu")
KERNELS = (FusedNorm, ColumnsConv2d, WholeMapConv2d, PointwiseConv2d, WinogradConv2d)
COLUMNS = ("model", "layer", "kernel", "input", "PyTorch ms", "ours ms", "x PyTorch")


def main(arguments: Sequence[str]) -> ExitStatus:
    """Measure every replaced layer of the models, forward and backward."""
    parsed = _parse(arguments)
    dtype = torch.bfloat16 if has_fast_bfloat16(CPU) else torch.float32
    settings = {"models": parsed.models, "batch": parsed.batch, "dtype": str(dtype)[6:]}
    record = Record("kernels", CPU, settings | {"rounds": parsed.rounds}, parsed.out)
    notes = ["forward and backward of the layer, medians, in turn in one process", "channels last"]
    table = record.table("Layers", COLUMNS, notes)
    keep_freed_memory()
    for name in parsed.models:
        for layer, ours, plain, shape in _replaced_layers(name, parsed.batch, dtype):
            theirs_ms, ours_ms = _milliseconds([plain, ours], shape, dtype, parsed.rounds)
            kind = type(ours).__name__
            size = "x".join(map(str, shape))
            row = (name, layer, kind, size, theirs_ms, ours_ms, theirs_ms / ours_ms)
            record.add(table, row)
    record.print_path()
    return ExitStatus.DONE


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = Parser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="[all that have a batch size]")
    parser.add_argument("--batch", type=positive_int, default=256, metavar="N", help="[256]")
    parser.add_argument("--rounds", type=positive_int, default=9, metavar="N", help="[9]")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    parsed = parser.parse(arguments)
    parsed.models = known_models(parsed.models)
    return parsed


def _replaced_layers(
    name: str, batch: int, dtype: torch.dtype
) -> Iterator[tuple[str, nn.Module, Callable[[Tensor], Tensor], tuple[int, ...]]]:
    """Every layer that is replaced, what PyTorch does instead, and the shape of its input."""
    algorithm = "columns" if dtype == torch.bfloat16 else "winograd"
    config = run_config(name, batch)
    torch.manual_seed(0)
    plain = models.build(config, CIFAR10)
    torch.manual_seed(0)
    ours = fuse_norms(replace_convolutions(models.build(config, CIFAR10), algorithm=algorithm))
    shapes: dict[str, tuple[int, ...]] = {}

    def note(layer: str, module: nn.Module, seen: Any, made: Tensor) -> None:
        shapes[layer] = tuple(seen[0].shape[1:])

    layers = {layer: one for layer, one in ours.named_modules() if isinstance(one, KERNELS)}
    for layer, module in layers.items():
        module.register_forward_hook(partial(note, layer))
    ours.eval()(torch.zeros(1, 3, 32, 32))
    for layer, module in layers.items():
        module._forward_hooks.clear()
        module.train().to(memory_format=torch.channels_last)
        other = module._plain if isinstance(module, FusedNorm) else plain.get_submodule(layer)
        if isinstance(other, nn.Module):
            other.to(memory_format=torch.channels_last)
        yield layer, module, other, (batch, *shapes[layer])


def _milliseconds(
    layers: Sequence[Callable[[Tensor], Tensor]],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    rounds: int,
) -> list[float]:
    """Milliseconds of a forward and a backward pass of each layer, measured in turn."""
    x = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()

    def step(layer: Callable[[Tensor], Tensor]) -> float:
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = layer(x)
        y.backward(torch.ones_like(y))
        x.grad = None
        return 1000 * (time.perf_counter() - started)

    for layer in layers:
        step(layer)
    times = [[step(layer) for layer in layers] for _ in range(rounds)]
    return [median(of_layer) for of_layer in zip(*times, strict=True)]


if __name__ == "__main__":
    run_main(main)
