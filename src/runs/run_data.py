"""The classes and image shape of a run's data, without loading the data."""

from collections.abc import Mapping
from typing import Any

from src.common.errors import UserError
from src.config import RunConfig
from src.data.builtin import known_spec
from src.data.spec import DataSpec, from_stored

DATA_SPEC = "data_spec"
"""Key of result.json for the classes and the image shape of data that is not built in."""


def to_store(config: RunConfig, spec: DataSpec) -> dict[str, Any]:
    """What a result stores to describe the run's data: nothing for built-in data sets."""
    return {} if known_spec(config) else {DATA_SPEC: spec.stored()}


def spec_of(config: RunConfig, result: Mapping[str, Any] | None) -> DataSpec:
    """The classes and the image shape of a run's data, from its name or its result.

    Raises UserError if neither tells them.
    """
    spec = known_spec(config) or from_stored((result or {}).get(DATA_SPEC))
    if spec is None:
        raise UserError(
            f"{config.model_name} {config.id}: the classes of {config.dataset!r} are not known; "
            f"expected a result with {DATA_SPEC}"
        )
    return spec
