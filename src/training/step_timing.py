"""The seconds of a training step in different compute formats."""

import time
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from src import models
from src.config import RunConfig
from src.data.spec import CIFAR10, DataSpec
from src.training.compute_format import ComputeFormat
from src.training.cuda_graphs import GraphRunner
from src.training.model_setup import prepare_model
from src.training.optimizers import build_optimizer, lr_tensor

_PROBE_BATCHES = {"cpu": (16, 32, 64), "cuda": (256,)}
_WARM_UP_STEPS = {"cpu": 1, "cuda": 4}
"""The first step is slower; on a GPU the third one is captured, and the fourth the first replay."""
_LONG_STEP = 0.25  # seconds per step at which the batch is not enlarged further
_PROBE_SECONDS = 0.3  # for each candidate, after a warm-up; at least one step of each


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
            model = prepare_model(deepcopy(plain), config, device, candidate, data)
            step = _step(model, config, device, candidate, batch, data)
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
                if not config.is_external_model:
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


def _step(
    model: nn.Module,
    config: RunConfig,
    device: torch.device,
    compute_format: ComputeFormat,
    batch: int,
    data: DataSpec,
) -> Callable[[], None]:
    """A training step on random images, as it runs: captured on a GPU, with the optimizer."""
    images = torch.randn(batch, *data.shape, device=device)
    images = images.to(memory_format=compute_format.layout)
    labels = torch.arange(batch, device=device) % len(data.classes)
    optimizer = build_optimizer(config, model, lr_tensor(device))
    runner = GraphRunner(
        device,
        graphs=config.cuda_graphs,
        keep_memory=False,
        on_uncaptured=(lambda why: optimizer.zero_grad()) if config.is_external_model else None,
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
