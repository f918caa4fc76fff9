"""The cells of a block: all of them, or a random sample."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.sweep.grids.block import Axis, GridBlock, matches
from src.sweep.grids.setting_values import MAX_CELLS

_DRAWS = 20  # for each cell of a sample, before it is given up
_MORE_DRAWS = 10_000

Settings = dict[str, Any]


@dataclass(frozen=True)
class _Cell:
    """The settings of a cell, without those at their default, and its rank on each axis."""

    settings: Settings
    ranks: Mapping[Axis, float]

    def rank(self, axes: Iterable[Axis]) -> tuple[float, ...]:
        return tuple(self.ranks[axis] for axis in axes)


class _TooMany(Exception):
    """A block has more than MAX_CELLS cells: so many, or more."""


def settings_of_cells(block: GridBlock) -> list[Settings]:
    """The settings of each cell, in order: lexically by axis, values as they are listed.

    Raises UserError if there are too many, or too few for the sample, or if an exclusion matches
    no cell.
    """
    if block.sample is None:
        try:
            cells = _remaining(block, _every_cell(block))
        except _TooMany as error:
            raise block.location.error(
                f"{error} combinations or more; expected at most {MAX_CELLS}, or a sample"
            ) from None
    else:
        cells = _sample(block, block.sample)
    return [cell.settings for cell in sorted(cells, key=lambda cell: cell.rank(block.axes))]


def _every_cell(block: GridBlock) -> list[_Cell]:
    """Every cell. Raises _TooMany; an axis without rows counts as too many."""
    cells = [_Cell({}, {})]
    for axis in block.by_dependency:
        if axis.interval:
            raise _TooMany(MAX_CELLS)
        rows_of = _rows(block, axis)
        choices = [(cell, rows_of(cell.settings)) for cell in cells]
        count = sum(len(rows) for _, rows in choices)
        if count > MAX_CELLS:
            raise _TooMany(count)
        cells = [
            _Cell({**cell.settings, **row}, {**cell.ranks, axis: rank})
            for cell, rows in choices
            for rank, row in rows
        ]
    return cells


def _rows(block: GridBlock, axis: Axis) -> Callable[[Settings], list[tuple[int, Settings]]]:
    """What an axis adds to the settings of a cell: the choices, each with its rank.

    Settings whose condition is not met are left out, and choices that differ in nothing else.
    """
    known: dict[tuple[str, ...], list[tuple[int, Settings]]] = {}

    def rows_of(settings: Settings) -> list[tuple[int, Settings]]:
        names = tuple(n for n in axis.names if _varies(block, n, settings))
        if names not in known:
            rows = [dict(zip(axis.names, row, strict=True)) for row in axis.rows]
            if names == axis.names:
                known[names] = list(enumerate(rows))
            else:
                parts = [tuple(row[name] for name in names) for row in rows]
                known[names] = [
                    (parts.index(part), dict(zip(names, part, strict=True)))
                    for part in dict.fromkeys(parts)
                ]
        return known[names]

    return rows_of


def _varies(block: GridBlock, name: str, settings: Settings) -> bool:
    return name not in block.when or matches(block.when[name], settings)


def _remaining(block: GridBlock, cells: Sequence[_Cell]) -> list[_Cell]:
    """The cells that are not excluded. Raises UserError if an exclusion excludes nothing."""
    excluded: set[int] = set()
    for number, wanted in enumerate(block.exclude, 1):
        matching = [n for n, cell in enumerate(cells) if matches(wanted, cell.settings)]
        if not matching:
            location = block.location.inside(f"exclude {number}")
            raise location.error("no cell has these values together; expected some to leave out")
        excluded.update(matching)
    if len(excluded) == len(cells):
        raise block.location.inside("exclude").error("every cell is excluded")
    return [cell for n, cell in enumerate(cells) if n not in excluded]


def _sample(block: GridBlock, size: int) -> list[_Cell]:
    """`size` different cells: uniformly from all, or axis by axis where they are too many.

    A draw depends on the names of settings, not on the order in which they are given.
    """
    import numpy as np  # 0.1 s, which other grids do without

    axes = sorted(block.axes, key=lambda axis: sorted(axis.names))
    generator = np.random.default_rng(block.sample_seed)
    try:
        cells = _remaining(block, _every_cell(block))
    except _TooMany:
        return _draw_by_axis(block, size, axes, lambda: generator.random(len(axes)).tolist())
    if len(cells) < size:
        raise block.location.inside("sample").error(
            f"{size} cells of {len(cells)} possible ones; expected at most {len(cells)}"
        )
    cells.sort(key=lambda cell: cell.rank(axes))
    order = np.argsort(generator.random(len(cells)), kind="stable")
    return [cells[n] for n in order[:size]]


def _draw_by_axis(
    block: GridBlock, size: int, axes: Sequence[Axis], draw: Callable[[], Sequence[float]]
) -> list[_Cell]:
    """`size` different cells, whose values are drawn uniformly on each axis. Raises UserError.

    draw: shares from 0 to 1, one for each of `axes`.
    """
    choices = {axis: _rows(block, axis) for axis in axes}
    cells: dict[tuple[tuple[str, Any], ...], _Cell] = {}
    limit = _DRAWS * size + _MORE_DRAWS
    for _ in range(limit):
        shares = dict(zip(axes, draw(), strict=True))
        settings: Settings = {}
        ranks: dict[Axis, float] = {}
        for axis in block.by_dependency:
            if axis.interval and _varies(block, axis.names[0], settings):
                value = axis.interval.at(shares[axis])
                settings[axis.names[0]] = ranks[axis] = value
            elif axis.interval:
                ranks[axis] = 0
            else:
                rows = choices[axis](settings)
                ranks[axis], row = rows[int(shares[axis] * len(rows))]
                settings.update(row)
        if not any(matches(wanted, settings) for wanted in block.exclude):
            cells.setdefault(tuple(sorted(settings.items())), _Cell(settings, ranks))
        if len(cells) == size:
            return list(cells.values())
    raise block.location.inside("sample").error(
        f"{size} cells, but {limit} draws found {len(cells)} different ones; expected fewer"
    )
