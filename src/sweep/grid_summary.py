"""What a grid amounts to: the number of cells of each block, and a table of its axes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from src.sweep.grid import ExpandedBlock
from src.sweep.grids.block import Axis, GridBlock, Wanted
from src.sweep.grids.setting_values import default_of

_SHOWN = 12  # values of a setting


@dataclass(frozen=True)
class BlockSummary:
    """The numbers of a block."""

    cells: int
    """All of its cells, repeated ones too."""
    repeated: int
    """Cells that an earlier block has too."""
    aliases: int
    """Cells with the run id of an earlier cell, which are trained with it."""
    axes: dict[str, str]
    """What each setting varies over, and how cells are drawn or left out, in words."""


def summarize(blocks: Sequence[ExpandedBlock]) -> list[BlockSummary]:
    """The numbers of each block."""
    ids: set[str] = set()
    summaries = []
    for expanded in blocks:
        aliases = 0
        for config in expanded.cells:
            aliases += config.id in ids
            ids.add(config.id)
        made = len(expanded.cells) + expanded.repeated
        summaries.append(
            BlockSummary(made, expanded.repeated, aliases, dict(_rows(expanded.block)))
        )
    return summaries


def lines(summaries: Sequence[BlockSummary]) -> Iterator[str]:
    """The summaries as text: for each block a line of numbers and the table of its axes."""
    for number, summary in enumerate(summaries, 1):
        yield (
            f"block {number}: {summary.cells} cells, {summary.repeated} of them in an earlier "
            f"block; {summary.aliases} aliases of other cells"
        )
        width = max(map(len, ["setting", *summary.axes]))
        for name, values in {"setting": "values", **summary.axes}.items():
            yield f"  {name:<{width}}  {values}"
        yield ""


def _rows(block: GridBlock) -> Iterator[tuple[str, str]]:
    for axis in block.axes:
        for name in axis.names:
            text = _values(axis, name)
            others = [other for other in axis.names if other != name]
            if others:
                text += f" (together with {', '.join(others)})"
            if name in block.when:
                text += f" where {_condition(block.when[name])}, else {default_of(name)}"
            yield name, text
    if block.sample is not None:
        yield "sample", f"{block.sample} cells, seed {block.sample_seed}"
    if block.exclude:
        yield "exclude", "; ".join(map(_condition, block.exclude))


def _values(axis: Axis, name: str) -> str:
    if axis.interval:
        scale = ", in log" if axis.interval.is_log else ""
        return f"{axis.interval.low} to {axis.interval.high}{scale}"
    values = [str(value) for value in axis.column(name)]
    if len(values) <= _SHOWN:
        return ", ".join(values)
    return f"{', '.join(values[:3])}, ..., {values[-1]} ({len(values)} values)"


def _condition(wanted: Wanted) -> str:
    return " and ".join(f"{name} is {' or '.join(map(str, v))}" for name, v in wanted.items())
