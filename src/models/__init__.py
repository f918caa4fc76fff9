"""The architectures, one per file. A new one is a file here with `@register("name")`."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from src.common import model_options
from src.common.errors import InvalidValue, UserError
from src.common.model_source import reference_of, trust_model
from src.common.paths import MODELS_PACKAGE
from src.common.registry import registered
from src.config import MODEL_OPTIONS, RunConfig, model_types
from src.data.spec import CIFAR10, DataSpec

if TYPE_CHECKING:
    from src.models.classifier import Classifier

Builder = TypeVar("Builder", bound=Callable[..., "Classifier"])

_builders: dict[str, Callable[..., "Classifier"]] = {}
_DATA = "data"  # parameter of a builder that is no option: the data that it is for


def register(name: str) -> Callable[[Builder], Builder]:
    """Make a class or function that returns a Classifier known as `name`."""

    def keep(builder: Builder) -> Builder:
        _builders[name] = builder
        return builder

    return keep


def options_of(config: RunConfig) -> dict[str, Any]:
    """The model options that a config sets.

    Raises UserError if they are given in the way of another kind of architecture.
    """
    options = {name: getattr(config, name) for name in MODEL_OPTIONS}
    given = {name: value for name, value in options.items() if value is not None}
    if not config.is_external_model:
        if config.model_option:
            raise UserError(
                f"--model_option {config.model_option!r}: the options of {config.model_type} are "
                f"flags of their own; expected --{config.model_option}"
            )
        return given
    for name in given:
        raise UserError(
            f"--{name}: only for the architectures of this project; expected "
            f"--model_option {name}=VALUE with {config.model_type}"
        )
    return model_options.parse(config.model_option)


def check(config: RunConfig) -> None:
    """Raise UserError if the architecture of a run is not there, or lacks an option."""
    reference, options = reference_of(config.model_type), options_of(config)
    if reference is None:
        check_options(config.model_type, options)
    else:
        from src.models import custom_model

        custom_model.check(reference, config.model_digest, options)


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Raise UserError for a name that is not registered or an option that the model lacks."""
    known = [name for name in inspect.signature(_builder(name)).parameters if name != _DATA]
    for option in options:
        if option not in known:
            has = ", ".join(known) or "none"
            raise UserError(f"--{option}: model {name} has no such option (its options: {has})")


def create(name: str, *, data: DataSpec = CIFAR10, **options: Any) -> "Classifier":
    """Build the model `name` with weights from torch's current random state.

    name: a registered one, or any other that --model_type takes, whose code is then run. data: the
    classes and the shape of the images that it is for. Raises UserError for a name that is not
    known, an option that the model lacks, or images that it cannot take.
    """
    if reference := reference_of(name):
        from src.models import custom_model

        return _adapted(custom_model.build(reference, trust_model(name), options, data), data)
    check_options(name, options)
    return _adapted(_builder(name)(**options, data=data), data)


def _adapted(model: "Classifier", data: DataSpec) -> "Classifier":
    """Scale the evaluation batch to the image size, so that a batch keeps its number of pixels."""
    if data.size != CIFAR10.size:
        share = (CIFAR10.size / data.size) ** 2  # as many pixels at a time
        model.evaluation_batch = {
            device: max(1, int(images * share)) for device, images in model.evaluation_batch.items()
        }
    return model


def build(config: RunConfig, data: DataSpec) -> "Classifier":
    """The model of a run for its data, with weights from torch's current random state.

    Raises UserError as `create` does, and if its architecture is code that no person has named in
    this process.
    """
    reference = reference_of(config.model_type)
    if reference is None:
        return create(config.model_type, data=data, **options_of(config))
    from src.models import custom_model

    model = custom_model.build(reference, config.model_digest, options_of(config), data)
    return _adapted(model, data)


def _builder(name: str) -> Callable[..., "Classifier"]:
    modules = registered(MODELS_PACKAGE)
    if name not in modules:
        raise InvalidValue("--model_type", name, f"one of {', '.join(model_types())}")
    importlib.import_module(f"src.models.{modules[name]}")
    return _builders[name]
