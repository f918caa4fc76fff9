"""Set up a run: its model, the batches of an epoch, the seeds of its steps."""

import hashlib
import struct

import torch

from src import models
from src.config import RunConfig
from src.cpu.convolutions import replace_convolutions
from src.cpu.fused_norm import fuse_norms
from src.data.spec import CIFAR10, DataSpec
from src.models.classifier import Classifier
from src.training import initial_weights
from src.training.compute_format import FLOAT32_CONTIGUOUS, ComputeFormat


def build_model(
    config: RunConfig,
    device: torch.device,
    compute_format: ComputeFormat = FLOAT32_CONTIGUOUS,
    data: DataSpec = CIFAR10,
) -> Classifier:
    """The model of a run with its initial weights, which are the same on every device.

    data: what the model is for. Raises UserError if weights that the config names cannot be had
    or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = models.build(config, data)
        initial_weights.reinitialize(model, config)
    initial_weights.load_initial_weights(model, config)
    return prepare_model(model, config, device, compute_format, data)


def prepare_model(
    model: Classifier,
    config: RunConfig,
    device: torch.device,
    compute_format: ComputeFormat,
    data: DataSpec = CIFAR10,
) -> Classifier:
    """Move a model to its device, its layers replaced by those of src/cpu where that is possible.

    Weights that only ever meet padding stay out of the optimizer if it would only decay them.
    """
    if config.replaces_convolutions:
        model = replace_convolutions(
            model,
            data.shape,
            dead_taps=drops_dead_taps(config),
            algorithm=compute_format.convolution,
        )
    if compute_format.fused_norm:
        fuse_norms(model)
    return model.to(device, memory_format=compute_format.layout)  # type: ignore[call-overload]


def drops_dead_taps(config: RunConfig) -> bool:
    """Whether weights that only ever meet padding may stay out of the optimizer.

    Their gradient is zero: a decoupled weight decay, or none, does not reach what is computed.
    """
    return config.optimizer == "adamw" or config.weight_decay == 0


def batch_bounds(count: int, size: int) -> list[tuple[int, int]]:
    """First and last index of each batch of an epoch.

    A last batch of one image joins the one before it: batch norm cannot normalise it.
    """
    firsts = list(range(0, count, size))
    if len(firsts) > 1 and count - firsts[-1] == 1 < size:
        firsts.pop()
    return list(zip(firsts, [*firsts[1:], count], strict=True))


def step_seed(seed: int, epoch: int, step: int) -> int:
    """The seed of the dropout of one step: a hash, so that no random state has to be saved."""
    digest = hashlib.blake2b(struct.pack("<QQQ", seed, epoch, step), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
