"""Architectures that are not of this project: a person's own, torchvision's and timm's."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from textwrap import shorten
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from src.common.errors import UserError, class_and_message
from src.common.model_source import ModelReference, ModelSource, model_error, trusted_source
from src.common.option_fields import did_you_mean
from src.data.spec import DataSpec
from src.models.classifier import Classifier
from src.models.source_import import imported, place_and_message

_OF_DATA: Mapping[str, Callable[[DataSpec], object]] = {
    "num_classes": lambda data: len(data.classes),
    "in_channels": lambda data: data.channels,
    "image_size": lambda data: data.size,
    "data": lambda data: data,
}
"""Parameters that are given where a class or function has them, from the data."""

_HINT = 300  # characters of the names of a library in an error line


class WrappedModule(Classifier):
    """Any module from images to logits, without penultimate features.

    Its state dict is that of the module alone: saved weights load into the module itself.
    channels: those that the module takes; grey images are repeated to as many.
    """

    has_features = False

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net, self.head, self._channels = net, nn.Identity(), channels

    def features(self, x: Tensor) -> Tensor:
        """The logits: `head` leaves them as they are."""
        logits: Tensor = self.net(x.expand(-1, self._channels, -1, -1))
        return logits

    def state_dict(self, *arguments: Any, **settings: Any) -> Any:
        """That of the module."""
        return self.net.state_dict(*arguments, **settings)

    def load_state_dict(self, *arguments: Any, **settings: Any) -> Any:
        """Load a state dict of the module."""
        return self.net.load_state_dict(*arguments, **settings)


@dataclass(frozen=True)
class _Builder:
    """How a model is built, and which keyword options it takes."""

    make: Callable[..., Any]
    of_data: Mapping[str, Callable[[DataSpec], object]]
    """Arguments that follow from the data."""
    options: tuple[str, ...] | None
    """The names of its options. None: any."""
    required: tuple[str, ...] = ()
    source: ModelSource | None = None
    channels: int | None = None
    """Those that it always takes. None: as it asks for them, or as a trial shows."""


def check(reference: ModelReference, digest: str | None, options: Mapping[str, object]) -> None:
    """Import an architecture and compare its parameters with the options, without building it.

    Raises UserError if it is not there, not named by a person, or does not take these options.
    """
    builder = _builder(reference, digest)
    for name in options:
        if name in builder.of_data:
            raise model_error(reference, f"{name} is given by the data; expected it left out")
        if builder.options is not None and name not in builder.options:
            has = did_you_mean(name, list(builder.options)) if builder.options else " (it has none)"
            raise UserError(f"--model_option {name}: {reference} has no such option{has}")
    for name in builder.required:
        if name not in options:
            raise model_error(
                reference,
                f"it needs {name}, which has no default; expected --model_option {name}=VALUE",
            )


def build(
    reference: ModelReference, digest: str | None, options: Mapping[str, object], data: DataSpec
) -> Classifier:
    """Build an architecture, with weights from torch's current random state.

    Raises UserError as `check` does, and if it cannot be built or is no module.
    """
    check(reference, digest, options)
    builder = _builder(reference, digest)
    arguments = {name: value_of(data) for name, value_of in builder.of_data.items()}
    try:
        made = builder.make(**arguments, **options)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as raised:  # a person's code may raise anything
        why = describe_exception(builder.source, raised)
        raise model_error(reference, f"it cannot be built: {why}") from raised
    if not isinstance(made, nn.Module):
        raise model_error(reference, f"it gives {type(made).__name__}; expected a torch.nn.Module")
    if isinstance(made, Classifier):
        model: Classifier = made
    else:
        asked = builder.of_data.keys() & {"in_channels", "in_chans", "data"}
        tried = data.channels if asked or builder.channels else _channels(made, data)
        model = WrappedModule(made, builder.channels or tried)
    _initialize_lazy(model, data)
    return model


def describe_exception(source: ModelSource | None, raised: Exception) -> str:
    """An exception in one line, with its place in the source if there is one."""
    if source:
        return place_and_message(source, raised)
    return class_and_message(raised)


def source_of(reference: ModelReference, digest: str | None) -> ModelSource | None:
    """The source of an architecture that a person has named. None for those of libraries."""
    return None if reference.is_library else trusted_source(reference, digest)


def _channels(net: nn.Module, data: DataSpec) -> int:
    """Those of the data; three for grey images that a module takes only as three channels."""
    if data.channels == 1 and not _takes(net, 1, data) and _takes(net, 3, data):
        return 3
    return data.channels


def _takes(net: nn.Module, channels: int, data: DataSpec) -> bool:
    """Whether a module takes images of so many channels. Leaves the random state as it was."""
    training = net.training
    with torch.no_grad(), torch.random.fork_rng([]), suppress(Exception):
        net.eval()(torch.zeros(1, channels, data.size, data.size))
        net.train(training)
        return True
    net.train(training)
    return False


def _initialize_lazy(model: nn.Module, data: DataSpec) -> None:
    """Give lazy layers, such as LazyLinear, their weights now, from the shape of the images."""
    if any(isinstance(parameter, UninitializedParameter) for parameter in model.parameters()):
        training = model.training
        with torch.no_grad():
            model.eval()(torch.zeros(1, *data.shape))
        model.train(training)


def _builder(reference: ModelReference, digest: str | None) -> _Builder:
    if reference.place == "torchvision":
        return _of_torchvision(reference)
    if reference.place == "timm":
        return _of_timm(reference)
    source = trusted_source(reference, digest)
    return _of_callable(reference, imported(source), source)


def _of_callable(reference: ModelReference, target: Any, source: ModelSource) -> _Builder:
    if isinstance(target, nn.Module | ModuleType) or not callable(target):
        raise model_error(
            reference,
            f"it is {type(target).__name__}; expected a class or a function that builds a model",
        )
    if inspect.isabstract(target):
        lacking = ", ".join(sorted(target.__abstractmethods__))
        raise model_error(reference, f"it is a class without {lacking}; expected a complete class")
    try:
        parameters = inspect.signature(target).parameters.values()
    except (ValueError, TypeError):
        raise model_error(reference, "it does not tell its parameters") from None
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    others = [p for p in named if p.name not in _OF_DATA]
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
    return _Builder(
        target,
        {p.name: _OF_DATA[p.name] for p in named if p.name in _OF_DATA},
        None if takes_any else tuple(p.name for p in others),
        tuple(p.name for p in others if p.default is p.empty),
        source,
    )


def _of_torchvision(reference: ModelReference) -> _Builder:
    """Only names that torchvision lists as classifiers, always without its weights."""
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    _check_listed(reference, known)

    def make(**arguments: Any) -> nn.Module:
        return torchvision.models.get_model(reference.attribute, weights=None, **arguments)

    return _Builder(make, {"num_classes": _OF_DATA["num_classes"]}, None, channels=3)


def _of_timm(reference: ModelReference) -> _Builder:
    """Only names that timm lists, always without its weights."""
    try:
        timm = import_module("timm")
    except ModuleNotFoundError as missing:
        if missing.name != "timm":
            raise
        raise model_error(reference, "timm is not installed: pip install timm") from None
    _check_listed(reference, timm.list_models())

    def make(**arguments: Any) -> Any:
        return timm.create_model(reference.attribute, pretrained=False, **arguments)

    of_data = {"num_classes": _OF_DATA["num_classes"], "in_chans": _OF_DATA["in_channels"]}
    return _Builder(make, of_data, None)


def _check_listed(reference: ModelReference, known: list[str]) -> None:
    if reference.attribute not in known:
        hint = shorten(did_you_mean(reference.attribute, known), _HINT, placeholder=" ...)")
        joint = "" if hint.startswith(";") else " "
        raise model_error(reference, f"{reference.place} has no such model{joint}{hint}")
