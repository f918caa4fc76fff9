"""A short test of an architecture of unknown code: its output, and whether it resumes exactly."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from src import models
from src.common.model_source import ModelReference, model_error, reference_of
from src.config import RunConfig
from src.data.spec import DataSpec
from src.models import custom_model
from src.models.classifier import Classifier

_IMAGES = 4  # of the batch: more than one, for batch norm
_STEPS = 2  # of training, before its state is saved
_RATE = 0.01


def resume_problems(config: RunConfig, data: DataSpec) -> tuple[str, ...]:
    """Why a resumed run of this architecture would differ from an undisturbed one, in words.

    Empty if no reason was found, and for architectures of this project, which have tests. Tested
    once in a process, on the CPU with a few random images. Raises UserError if the model cannot be
    built, cannot take the images, or does not return a logit for each class.
    """
    reference = reference_of(config.model_type)
    if reference is None:
        return ()
    return _resume_problems(reference, config.model_digest, config.model_option, data)


@cache
def _resume_problems(
    reference: ModelReference, digest: str | None, options: str | None, data: DataSpec
) -> tuple[str, ...]:
    config = RunConfig(
        model_type=str(reference), model_digest=digest, model_option=options, dataset="cifar10"
    )
    with _own_random_state():
        model = _built(config, data)
        images = torch.randn(_IMAGES, *data.shape)
        labels = torch.arange(_IMAGES) % len(data.classes)
        problems = []
        if not _equal(model.state_dict(), _built(config, data).state_dict()):
            problems.append("its initial weights do not follow from torch's random state")
        _check_output(config, model, images, data)
        _train(model, images, labels)
        state = deepcopy(model.state_dict())
        same, other = (_loaded(config, data, state) for _ in range(2))
        original, restored, restored_again = (
            _probe(probed, images, labels) for probed in (model, same, other)
        )
    if not _equal(restored.step, restored_again.step):
        problems.append(
            "its training output depends on more than its state dict and torch's random state"
        )
    elif not _equal(original.step, restored.step):
        problems.append("its state dict does not hold all that its output depends on")
    if not torch.equal(restored.evaluation, restored_again.evaluation):
        problems.append("its output in evaluation is random")
    return tuple(problems)


@contextmanager
def _own_random_state() -> Iterator[None]:
    """Leave the random states of torch, numpy and Python as they were."""
    before, of_python = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng([]), torch.device("cpu"):
            yield
    finally:
        np.random.set_state(before)
        random.setstate(of_python)


def _built(config: RunConfig, data: DataSpec) -> Classifier:
    torch.manual_seed(0)
    return models.build(config, data)


def _loaded(config: RunConfig, data: DataSpec, state: dict[str, Tensor]) -> Classifier:
    model = _built(config, data)
    model.load_state_dict(state)
    return model


def _check_output(config: RunConfig, model: Classifier, images: Tensor, data: DataSpec) -> None:
    """Raise UserError unless the model returns (N, classes), in training and in evaluation."""
    reference = reference_of(config.model_type)
    assert reference
    wanted = (len(images), len(data.classes))
    for is_training in (True, False):
        try:
            with torch.no_grad():
                logits = model.train(is_training)(images)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as raised:  # a person's code may raise anything
            shape = ", ".join(map(str, data.shape))
            source = custom_model.source_of(reference, config.model_digest)
            why = custom_model.describe_exception(source, raised)
            raise model_error(reference, f"it cannot take images (N, {shape}): {why}") from raised
        actual = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if actual != wanted or not logits.is_floating_point():
            raise model_error(
                reference,
                f"it returned {actual} for {wanted[0]} images; expected logits {wanted}, one for "
                "each class",
            )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise model_error(reference, "it has no parameters to train")
    if model.has_features:
        with torch.no_grad():
            features = model.features(images)
            if features.dim() != 2 or not torch.equal(model.head(features), logits):
                raise model_error(reference, "its output is not head(features(x)), features (N, F)")


def _train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=_RATE)
    for step in range(_STEPS):
        torch.manual_seed(step)
        cross_entropy(model.train()(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()


@dataclass(frozen=True)
class _Probe:
    """What a model computes from one batch."""

    evaluation: Tensor
    """Logits in evaluation mode."""
    step: dict[str, Tensor]
    """Logits, gradients and the state dict of a training step."""


def _probe(model: Classifier, images: Tensor, labels: Tensor) -> _Probe:
    """Evaluate and train a model once.

    The random state of the evaluation differs from call to call, that of training does not.
    """
    torch.seed()
    with torch.no_grad():
        evaluation = model.eval()(images)
    torch.manual_seed(_STEPS)
    logits = model.train()(images)
    cross_entropy(logits, labels).backward()
    gradients = {
        f"gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None
    }
    return _Probe(evaluation, {"logits": logits.detach(), **gradients, **model.state_dict()})


def _equal(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(
        torch.equal(torch.nan_to_num(value), torch.nan_to_num(other[name]))
        for name, value in state.items()
    )
