"""The architectures, one per file. A new one is a file here with `@register("name")`."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from src.common.errors import InvalidValue, UserError
from src.common.paths import MODELS_PACKAGE
from src.common.registry import registered
from src.config import MODEL_OPTIONS, RunConfig, model_types

if TYPE_CHECKING:
    from src.models.classifier import Classifier

Builder = TypeVar("Builder", bound=Callable[..., "Classifier"])

_builders: dict[str, Callable[..., "Classifier"]] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Make a class or function that returns a Classifier known as `name`."""

    def keep(builder: Builder) -> Builder:
        _builders[name] = builder
        return builder

    return keep


def options_of(config: RunConfig) -> dict[str, object]:
    """The model options that a config sets."""
    options = {name: getattr(config, name) for name in MODEL_OPTIONS}
    return {name: value for name, value in options.items() if value is not None}


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Raise UserError for a name that is not registered or an option that the model lacks."""
    known = list(inspect.signature(_builder(name)).parameters)
    for option in options:
        if option not in known:
            has = ", ".join(known) or "none"
            raise UserError(f"--{option}: model {name} has no such option (its options: {has})")


def create(name: str, **options: object) -> "Classifier":
    """Build the registered model `name` with weights from torch's current random state.

    Raises UserError for a name that is not registered or an option that the model lacks.
    """
    check_options(name, options)
    return _builder(name)(**options)


def _builder(name: str) -> Callable[..., "Classifier"]:
    modules = registered(MODELS_PACKAGE)
    if name not in modules:
        raise InvalidValue("--model_type", name, f"one of {', '.join(model_types())}")
    importlib.import_module(f"src.models.{modules[name]}")
    return _builders[name]
