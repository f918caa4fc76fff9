"""The space of a search: varied and fixed settings, read from YAML and checked."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.common.errors import InvalidValue, UserError
from src.common.model_source import model_name, trust_model
from src.common.option_fields import checked, did_you_mean, kind_of
from src.common.yaml_files import read_yaml
from src.config import SEARCH, RunConfig, check_given, from_mapping, given_names

if TYPE_CHECKING:
    import optuna

_SPECS = {spec.name: spec for spec in fields(RunConfig)}


@dataclass(frozen=True)
class Range:
    """All numbers from low to high, both included; whole numbers for an int field."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def suggest(self, trial: "optuna.Trial", name: str) -> object:
        """Suggest a value of the field `name`."""
        if isinstance(self.low, int):
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(name, self.low, int(self.high), step=step, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    @property
    def examples(self) -> tuple[object, ...]:
        """Its two ends, to check."""
        return self.low, self.high


@dataclass(frozen=True)
class Choice:
    """An unordered list of values."""

    values: tuple[Any, ...]

    def suggest(self, trial: "optuna.Trial", name: str) -> object:
        """Suggest a value of the field `name`."""
        return trial.suggest_categorical(name, self.values)

    @property
    def examples(self) -> tuple[object, ...]:
        """All values, to check."""
        return self.values


Dimension = Range | Choice


@dataclass(frozen=True)
class SearchSpace:
    """A search: `base` with the fields of `dimensions` varied."""

    stem: str
    base: RunConfig
    dimensions: Mapping[str, Dimension]
    replicate_seeds: tuple[int, ...] = ()
    """Seeds of a trial beside that of `base`: it is judged by the mean over all of them."""
    digests: Mapping[str, str | None] = field(default_factory=dict)
    """Of the source of each of its architectures; None for those that are no person's own."""

    @property
    def name(self) -> str:
        """The stem of its file, and a hash of everything that identifies the search."""
        given = self.base.given().items()
        fixed = {name: value for name, value in given if name not in self.dimensions}
        varied = {name: asdict(dimension) for name, dimension in self.dimensions.items()}
        if self.replicate_seeds:
            fixed["seed"] = [self.base.seed, *self.replicate_seeds]
        fixed["dataset"] = self.base.data_name
        fixed.pop("model_digest", None)
        if own := {model_name(name): digest for name, digest in self.digests.items() if digest}:
            fixed["model_digests"] = own
        text = json.dumps({**fixed, SEARCH: varied}, sort_keys=True)
        return f"{self.stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def config(self, values: Mapping[str, object]) -> RunConfig:
        """The run with these values of the varied fields."""
        settings = {**self.base.as_dict(), **values}
        settings["model_digest"] = self.digests.get(str(settings["model_type"]))
        return from_mapping(settings, self.stem)

    def models(self) -> list[RunConfig]:
        """A run of each of its architectures."""
        varied = self.dimensions.get("model_type")
        names = varied.examples if varied else (self.base.model_type,)
        return [self.config({"model_type": name}) for name in names]

    def suggest(self, trial: "optuna.Trial") -> RunConfig:
        """The run of a trial. Asking a trial again gives the same values."""
        return self.config({name: d.suggest(trial, name) for name, d in self.dimensions.items()})

    def replicates(self, config: RunConfig) -> list[RunConfig]:
        """The same run with each of the further seeds."""
        return [replace(config, seed=seed) for seed in self.replicate_seeds]


def read(path: Path, flags: Mapping[str, object]) -> SearchSpace:
    """The search in a YAML file; `flags` win over its fixed settings.

    Raises UserError that names the file or flag and what is wrong with it.
    """
    file = read_yaml(path)
    varied = file.pop(SEARCH, None)
    if not isinstance(varied, dict) or not varied:
        raise UserError(
            f"{path}: no settings under 'search:'; see run_config/cifar10net_search.yaml"
        )
    source = f"{path}: search"
    dimensions = {str(name): _dimension(source, str(name), d) for name, d in varied.items()}
    for name in dimensions:
        if name in file:
            raise UserError(f"{path}: {name} is given a value and searched; expected one of these")
        if name in flags:
            raise UserError(
                f"--{name}: {path} searches it; leave out the flag, or take it from there"
            )
    seeds = _take_seeds(file, flags, str(path))
    check_given(file, str(path))
    from_mapping(file, str(path))  # errors in the file should name the file
    first = {name: dimension.examples[0] for name, dimension in dimensions.items()}
    base = from_mapping({**file, **flags, **first}, "flags")
    varied_models = dimensions.get("model_type")
    names = map(str, varied_models.examples if varied_models else (base.model_type,))
    digests = {name: trust_model(name) for name in names}
    space = SearchSpace(path.stem, base, dimensions, seeds, digests)
    _require_effect(space, source)
    _require_momentum(space)
    _require_models(space)
    return space


def _take_seeds(
    file: dict[str, object], flags: Mapping[str, object], source: str
) -> tuple[int, ...]:
    """Replace a list of seeds by its first one; returns the others. A flag replaces the list.

    Raises UserError if one is no seed, or is given twice.
    """
    given = file.get("seed")
    if not isinstance(given, list):
        return ()
    try:
        first, *others = _choice("seed", given or [None]).values
    except InvalidValue as error:
        raise UserError(f"{source}: {error}") from None
    file["seed"] = first
    return () if "seed" in flags else tuple(others)


def _dimension(source: str, name: str, given: object) -> Dimension:
    if name not in given_names():
        raise UserError(f"{source}: unknown setting {name!r}{did_you_mean(name, given_names())}")
    if not _SPECS[name].metadata["changes_result"]:
        raise UserError(f"{source}: {name} cannot change a result")
    try:
        if isinstance(given, list) and given:
            return _choice(name, given)
        if isinstance(given, dict) and kind_of(_SPECS[name]) in ("int", "float"):
            return _range(name, given)
    except InvalidValue as error:
        raise UserError(f"{source}: {error}") from None
    numbers = " or {low: ..., high: ...}" if kind_of(_SPECS[name]) in ("int", "float") else ""
    raise UserError(f"{source}: {name} {given!r}: expected a list of values{numbers}")


def _choice(name: str, given: list[object]) -> Choice:
    values = tuple(checked(_SPECS[name], value) for value in given)
    if len(set(values)) < len(values):
        raise InvalidValue(name, given, "different values")
    return Choice(values)


def _range(name: str, given: dict[object, object]) -> Range:
    for key in given:
        if key not in ("low", "high", "log", "step"):
            raise InvalidValue(name, given, f"low, high, log and step, not {key!r}")
    ends = [checked(_SPECS[name], given.get(end, "missing")) for end in ("low", "high")]
    if None in ends:
        raise InvalidValue(name, given, "numbers for low and high")
    low, high = ends
    log, step = given.get("log", False), given.get("step")
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if low > high:
        raise InvalidValue(name, given, "low to be at most high")
    if not isinstance(log, bool):
        raise InvalidValue(name, given, "log to be true or false")
    if log and low <= 0:
        raise InvalidValue(name, given, "low to be above 0 with log")
    if step is not None and log:
        raise InvalidValue(name, given, "step or log, not both")
    return Range(low, high, log, None if step is None else _step(name, low, high, step))


def _step(name: str, low: float, high: float, step: Any) -> float:
    """A step of the field's kind that leads from low to high."""
    whole = isinstance(low, int)
    right = isinstance(step, int if whole else int | float) and not isinstance(step, bool)
    if not right or step <= 0:
        raise InvalidValue(f"{name}: step", step, f"a {'whole ' * whole}number above 0")
    low_, high_, step_ = (Decimal(str(value)) for value in (low, high, step))
    if (high_ - low_) % step_:
        raise InvalidValue(f"{name}: step", step, f"whole steps from {low:g} to {high:g}")
    return float(step)


def _require_effect(space: SearchSpace, source: str) -> None:
    """Raise UserError for a field that matters with none of the values of those it depends on."""
    for name in space.dimensions:
        for other, values in _SPECS[name].metadata["matters_if"].items():
            dimension = space.dimensions.get(other)
            possible = dimension.examples if dimension else (getattr(space.base, other),)
            if not set(possible) & set(values):
                needed = " or ".join(map(str, values))
                raise UserError(f"{source}: {name} has no effect without {other} {needed}")


def _require_momentum(space: SearchSpace) -> None:
    """Raise UserError if a trial could have Nesterov momentum without momentum."""
    names = [name for name in ("optimizer", "momentum", "nesterov") if name in space.dimensions]
    for values in product(*(space.dimensions[name].examples for name in names)):
        space.config(dict(zip(names, values, strict=True)))


def _require_models(space: SearchSpace) -> None:
    """Raise UserError if an architecture lacks an option that is set or searched."""
    from src import models

    for config in space.models():
        models.check(config)
