"""A block of a grid, read from YAML and checked: its axes, conditions, sample and exclusions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from math import prod
from typing import Any

from src.sweep.grids.setting_values import (
    MAX_CELLS,
    ValueRange,
    YamlLocation,
    check_count,
    check_mapping,
    check_name,
    default_of,
    values_of,
    wanted_values,
)

KEYS = ("zip", "when", "sample", "sample_seed", "exclude")
"""Keys of a block beside the settings."""

_ORDER = ("model_type", "scheduler", "data_augmentation", "learning_rate", "weight_decay", "gamma")
_MAX_SAMPLE = 10_000
_MAX_SEED = 2**32 - 1
_SHOWN = 8  # values of a setting in an error
_ZIP_EXAMPLE = "{learning_rate: [0.1, 0.01], weight_decay: [0.001, 0.0001]}"

Wanted = Mapping[str, tuple[Any, ...]]
"""A condition: settings, each with the values that it accepts."""


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: rows are many
class Axis:
    """A setting with its values, or the settings of a zip with theirs."""

    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...] = ()
    """The values of the settings, which go together."""
    interval: ValueRange | None = None
    """In place of rows: the range that a sample draws the one setting from."""

    def column(self, name: str) -> list[Any]:
        """The values of one of its settings."""
        return [row[self.names.index(name)] for row in self.rows]


@dataclass(frozen=True)
class GridBlock:
    """A checked block. Its axes are in the order in which cells are sorted."""

    location: YamlLocation
    axes: tuple[Axis, ...]
    when: Mapping[str, Wanted]
    """Settings that vary only in cells that meet a condition, and have their default elsewhere."""
    exclude: tuple[Wanted, ...]
    sample: int | None
    sample_seed: int

    @cached_property
    def by_dependency(self) -> tuple[Axis, ...]:
        """The axes, each after those on which its conditions depend."""
        of_setting = {name: axis for axis in self.axes for name in axis.names}
        graph = {
            axis: [
                of_setting[other]
                for name in axis.names
                for other in self.when.get(name, {})
                if other in of_setting
            ]
            for axis in self.axes
        }
        try:
            return tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            names = sorted({name for axis in error.args[1] for name in axis.names})
            message = f"{' and '.join(names)} depend on each other"
            raise self.location.inside("when").error(message) from None


def matches(wanted: Wanted, settings: Mapping[str, Any]) -> bool:
    """Whether settings, with the defaults of all others, meet a condition."""
    return all(
        (settings[name] if name in settings else default_of(name)) in values
        for name, values in wanted.items()
    )


def read_block(given: object, location: YamlLocation, *, keep_repeats: bool = False) -> GridBlock:
    """A block from YAML. keep_repeats: a value that stands in a list twice makes two cells.

    Raises UserError naming the location and what is wrong there.
    """
    if not isinstance(given, dict):
        raise location.error("expected 'name: value' lines")
    raw: dict[object, object] = given
    _check_size(raw, location)
    block = GridBlock(
        location=location,
        axes=_axes(raw, location, keep_repeats),
        when=_conditions(raw, location.inside("when")),
        exclude=_exclusions(raw, location.inside("exclude")),
        sample=_count(raw, "sample", location, 1, _MAX_SAMPLE),
        sample_seed=_count(raw, "sample_seed", location, 0, _MAX_SEED) or 0,
    )
    if "sample_seed" in raw and block.sample is None:
        raise location.error("sample_seed without sample; expected sample: with a number of cells")
    for axis in block.axes:
        if axis.interval and block.sample is None:
            raise location.inside(axis.names[0]).error(
                "a range without steps is for a block's sample"
            )
    _check_conditions(block)
    return block


def _check_size(raw: Mapping[object, object], location: YamlLocation) -> None:
    """Raise UserError if there are too many combinations, before all their values are checked."""
    if "when" not in raw and "sample" not in raw:
        lengths = (len(v) for key, v in raw.items() if key not in KEYS and isinstance(v, list))
        if (count := prod(length for length in lengths if length)) > MAX_CELLS:
            raise location.error(f"{count} combinations; expected at most {MAX_CELLS}")


def _count(
    raw: Mapping[object, object], key: str, location: YamlLocation, *limits: int
) -> int | None:
    return check_count(raw[key], location.inside(key), *limits) if key in raw else None


def _axes(
    raw: Mapping[object, object], location: YamlLocation, keep_repeats: bool
) -> tuple[Axis, ...]:
    """The axes: sorted by model, scheduler, augmentation, rate, decay, gamma, then as given."""
    axes: list[Axis] = []
    for key, given in raw.items():
        if key == "zip":
            axes += _zips(given, location.inside("zip"))
        elif check_name(key, location, KEYS) not in KEYS:
            values = values_of(str(key), given, location)
            if isinstance(values, ValueRange):
                axes.append(Axis((str(key),), interval=values))
            else:
                kept = values if keep_repeats else list(dict.fromkeys(values))
                axes.append(Axis((str(key),), tuple((value,) for value in kept)))
    names = [name for axis in axes for name in axis.names]
    for name in names:
        if names.count(name) > 1:
            raise location.inside("zip").error(
                f"{name} is given twice; expected it once in a block"
            )
    return tuple(sorted(axes, key=lambda axis: min(map(_rank, axis.names))))


def _rank(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _zips(given: object, location: YamlLocation) -> Iterator[Axis]:
    for member in _members(given):
        values: dict[str, Sequence[Any]] = {}
        for key, of_setting in check_mapping(member, location, _ZIP_EXAMPLE).items():
            name = check_name(key, location)
            column = values_of(name, of_setting, location)
            if isinstance(column, ValueRange):
                raise location.inside(name).error("a range without steps; expected steps beside it")
            values[name] = column
        lengths = {name: len(column) for name, column in values.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} has {count}" for name, count in lengths.items())
            raise location.error(f"lists of unequal length: {counts}; expected equally many values")
        rows = dict.fromkeys(zip(*values.values(), strict=True))
        yield Axis(tuple(values), tuple(rows))


def _members(given: object) -> list[object]:
    """The mappings of a key that takes one or a list of them."""
    return given if isinstance(given, list) and given else [given]


def _conditions(raw: Mapping[object, object], location: YamlLocation) -> dict[str, Wanted]:
    example = "{step_size: {scheduler: step}}"
    given = check_mapping(raw["when"], location, example) if "when" in raw else {}
    return {
        check_name(name, location): wanted_values(
            wanted, location.inside(str(name)), "{scheduler: step}"
        )
        for name, wanted in given.items()
    }


def _exclusions(raw: Mapping[object, object], location: YamlLocation) -> tuple[Wanted, ...]:
    if "exclude" not in raw:
        return ()
    example = "{model_type: vit, learning_rate: 0.01}"
    return tuple(wanted_values(member, location, example) for member in _members(raw["exclude"]))


def _check_conditions(block: GridBlock) -> None:
    """Raise UserError if a condition refers to what is not in the block: a typo hides there."""
    for name, wanted in block.when.items():
        location = block.location.inside("when").inside(name)
        members = [axis.names for axis in block.axes if name in axis.names]
        if not members:
            raise location.error(
                f"{name} is no setting of this block; expected {name}: with values"
            )
        for other in wanted:
            if other in members[0]:
                raise location.error(f"it depends on {other}, which it goes together with")
        _check_possible(block, wanted, location)
    for number, wanted in enumerate(block.exclude, 1):
        _check_possible(block, wanted, block.location.inside(f"exclude {number}"))
    _ = block.by_dependency  # raises if there is a circle


def _check_possible(block: GridBlock, wanted: Wanted, location: YamlLocation) -> None:
    for name, values in wanted.items():
        [axis] = [axis for axis in block.axes if name in axis.names] or [Axis((name,))]
        if axis.interval:
            raise location.error(
                f"{name} is drawn from a range, which no single value can be met in"
            )
        possible = axis.column(name)
        if not possible or name in block.when:
            possible = [*possible, default_of(name)]
        if not set(values) & set(possible):
            shown = [str(value) for value in possible[:_SHOWN]]
            more = ", ..." if len(possible) > _SHOWN else ""
            asked = " or ".join(map(str, values[:_SHOWN]))
            raise location.error(f"{name} is never {asked} here; it is {', '.join(shown)}{more}")
