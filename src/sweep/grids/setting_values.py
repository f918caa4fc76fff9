"""The values of a setting in a grid: one value, a list, or a range."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

from src.common.errors import UserError
from src.common.option_fields import did_you_mean, kind_of
from src.config import RunConfig, from_mapping, given_names

MAX_CELLS = 100_000
_RANGE_KEYS = ("from", "to", "steps", "log")
_DIGITS = 6  # significant ones, to which numbers inside of a range are rounded
_OPTIONS = "model_option"
_SPECS = {spec.name: spec for spec in fields(RunConfig)}


@dataclass(frozen=True)
class YamlLocation:
    """A location in a grid file, which every error names: grid.yaml: block 2, zip."""

    source: str
    parts: tuple[str, ...] = ()

    def inside(self, part: str) -> "YamlLocation":
        """A location in this one."""
        return YamlLocation(self.source, (*self.parts, part))

    def error(self, text: str) -> UserError:
        """An error at this location."""
        return UserError(f"{self}: {text}")

    def __str__(self) -> str:
        return f"{self.source}: {', '.join(self.parts)}" if self.parts else self.source


@dataclass(frozen=True)
class ValueRange:
    """A range of a number, ends included."""

    low: float
    high: float
    is_log: bool
    is_whole: bool

    def step(self, number: int, steps: int) -> float:
        """The value of a step from 0 to `steps` - 1, equally far apart, or by equal factors."""
        value = self._between(number / (steps - 1), self.high)
        return self._clipped(round(value) if self.is_whole else value)

    def at(self, share: float) -> float:
        """The value at a share from 0 to below 1, for a draw that is uniform, or is in log."""
        value = self._between(share, self.high + 1 if self.is_whole else self.high)
        return self._clipped(math.floor(value) if self.is_whole else value)

    def _between(self, share: float, high: float) -> float:
        if not self.is_log:
            return self.low + share * (high - self.low)
        low = math.log(self.low)
        return math.exp(low + share * (math.log(high) - low))

    def _clipped(self, value: float) -> float:
        """`value` in the range. Rounded: its last bits differ between mathematical libraries."""
        tidy = value if self.is_whole else float(f"{value:.{_DIGITS}g}")
        return min(max(tidy, self.low), self.high)


def default_of(name: str) -> Any:
    """The value of a setting that a grid does not give."""
    return _SPECS[name].default


def check_name(name: object, location: YamlLocation, further: Iterable[str] = ()) -> str:
    """The name of a setting, or of one of the `further` keys. Raises UserError if it is neither."""
    known = [*given_names(), *further]
    if name not in known:
        raise location.error(f"unknown setting {str(name)!r}{did_you_mean(str(name), known)}")
    return str(name)


def check_mapping(given: object, location: YamlLocation, example: str) -> dict[object, object]:
    """`given`, if it is a mapping that is not empty. Raises UserError."""
    if not isinstance(given, dict) or not given:
        raise location.error(f"expected a mapping, such as {example}")
    return given


def check_count(given: object, location: YamlLocation, minimum: int, maximum: int) -> int:
    """`given`, if it is a whole number between these. Raises UserError."""
    if not isinstance(given, int) or isinstance(given, bool) or not minimum <= given <= maximum:
        raise location.error(f"{str(given)!r}: expected a whole number, {minimum} to {maximum}")
    return given


def one_value(name: str, value: object, location: YamlLocation) -> Any:
    """A value of a setting, converted to its type. Raises UserError if it is not allowed."""
    return getattr(from_mapping({name: value}, str(location)), name)


def listed_values(name: str, given: object, location: YamlLocation) -> list[Any]:
    """The values of a value or a list of values. Raises UserError if one is not allowed."""
    if given == []:
        raise location.error(f"{name} has no values; expected a value or a list of values")
    values = given if isinstance(given, list) else [given]
    if len(values) > MAX_CELLS:
        raise location.error(f"{name} has {len(values)} values; expected at most {MAX_CELLS}")
    return [one_value(name, value, location) for value in values]


def values_of(name: str, given: object, location: YamlLocation) -> list[Any] | ValueRange:
    """The values of a setting; a ValueRange for a range without steps.

    Raises UserError if one is not allowed.
    """
    if isinstance(given, dict) and name == _OPTIONS:
        return _combined_options(given, location)
    if isinstance(given, dict):
        return _range(name, given, location.inside(name))
    return listed_values(name, given, location)


def wanted_values(
    given: object, location: YamlLocation, example: str
) -> dict[str, tuple[Any, ...]]:
    """Settings, each with the values that a condition accepts. Raises UserError."""
    wanted = check_mapping(given, location, example)
    return {
        check_name(name, location): tuple(listed_values(str(name), values, location))
        for name, values in wanted.items()
    }


def _combined_options(given: Mapping[object, object], location: YamlLocation) -> list[Any]:
    """Every combination of options of an architecture, each with a value or a list of values."""
    lists = [
        [(option, value) for value in (values if isinstance(values, list) else [values])]
        for option, values in given.items()
    ]
    if (count := math.prod(map(len, lists))) > MAX_CELLS:
        raise location.inside(_OPTIONS).error(f"{count} combinations; expected at most {MAX_CELLS}")
    return listed_values(_OPTIONS, [dict(chosen) for chosen in product(*lists)], location)


def _range(
    name: str, given: Mapping[object, object], location: YamlLocation
) -> list[Any] | ValueRange:
    kind = kind_of(_SPECS[name])
    if kind not in ("int", "float"):
        raise location.error("a range is for numbers; expected a value or a list of values")
    for key in given:
        if key not in _RANGE_KEYS:
            hint = did_you_mean(str(key), list(_RANGE_KEYS))
            raise location.error(f"unknown key {str(key)!r} of a range{hint}")
    for key in ("from", "to"):
        if given.get(key) is None:
            raise location.error(f"a range without {key!r}; expected from, to, and steps or log")
    low, high = (one_value(name, given[key], location.inside(key)) for key in ("from", "to"))
    is_log = given.get("log", False)
    if not isinstance(is_log, bool):
        raise location.error(f"log {str(is_log)!r}: expected true or false")
    if None in (low, high) or low >= high:
        raise location.error(f"from {low} to {high}: expected a number, and a larger one")
    if is_log and low <= 0:
        raise location.error(f"from {low}: expected a number above 0, since log is true")
    interval = ValueRange(low, high, is_log, kind == "int")
    if "steps" not in given:
        return interval
    steps = check_count(given["steps"], location.inside("steps"), 2, MAX_CELLS)
    return list(dict.fromkeys(interval.step(number, steps) for number in range(steps)))
