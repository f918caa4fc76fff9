"""Grids: every combination of lists of values, each a run, in one block or in several."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from src.common.errors import UserError
from src.common.progress import ShowProgress, silent
from src.common.yaml_files import load_yaml
from src.config import RunConfig, from_mapping, with_digests
from src.sweep.grids.block import KEYS, GridBlock, read_block
from src.sweep.grids.block_cells import settings_of_cells
from src.sweep.grids.setting_values import MAX_CELLS, YamlLocation

REFERENCE = {
    "num_epochs": 80,
    "batch_size": 256,
    "model_type": ["resnet", "cnn", "vit"],
    "scheduler": ["exponential", "step", "cosine"],
    "data_augmentation": [False, True],
    "learning_rate": [0.01, 0.001, 0.0001, 0.00001],
    "weight_decay": [0.01, 0.001, 0.0001, 0.00001],
    "gamma": [0.95, 0.97, 0.99],
}
"""The 864 combinations of https://github.com/eliasmarcon/CIFAR-10."""

Grid = Mapping[str, object] | Sequence[object]
"""A block as YAML gives it, or a list of blocks."""


@dataclass(frozen=True)
class ExpandedBlock:
    """A block, and those of its cells that no earlier block has."""

    block: GridBlock
    cells: list[RunConfig]
    repeated: int
    """Number of its other cells."""


def read(path: Path) -> Grid:
    """A grid file: a YAML mapping of settings to values, or a list of such blocks.

    Raises UserError naming the file if it is neither; `expand` checks what is in the blocks.
    """
    content = load_yaml(path)
    if isinstance(content, dict):
        return {str(name): values for name, values in content.items()}
    if isinstance(content, list) and content:
        return content
    raise UserError(f"{path}: expected 'name: value' lines, or a list of blocks of such lines")


def expand(grid: Grid, source: str = "grid") -> list[RunConfig]:
    """Every cell of a grid, each once, in the order of its blocks.

    In a block, cells are ordered by model, scheduler, augmentation, rate, decay, gamma, the rest.
    Raises UserError that begins with `source` and the location in it if something is wrong.
    """
    blocks = expand_blocks(grid, source)
    return [config for block in blocks for config in block.cells]


def expand_blocks(
    grid: Grid, source: str = "grid", show_progress: ShowProgress = silent
) -> list[ExpandedBlock]:
    """The blocks of a grid, each with its cells, as `expand` orders them.

    show_progress: wraps the cells while they are made.
    Raises UserError that begins with `source` and the location in it if something is wrong.
    """
    location = YamlLocation(source)
    if isinstance(grid, Mapping):
        is_plain = not any(key in grid for key in KEYS)  # as grids were before there were blocks
        block = read_block(dict(grid), location, keep_repeats=is_plain)
        return [ExpandedBlock(block, _configs(block, show_progress), 0)]
    blocks = [read_block(block, location.inside(f"block {n}")) for n, block in enumerate(grid, 1)]
    seen: set[RunConfig] = set()
    expanded = []
    for block in blocks:
        configs = _configs(block, show_progress)
        new = [config for config in configs if config not in seen]
        seen.update(new)
        if len(seen) > MAX_CELLS:
            raise location.error(f"{len(seen)} cells or more; expected at most {MAX_CELLS}")
        expanded.append(ExpandedBlock(block, new, len(configs) - len(new)))
    return expanded


def _configs(block: GridBlock, show_progress: ShowProgress) -> list[RunConfig]:
    data = {"base_dataset_path": RunConfig.base_dataset_path}  # each run resolves its location
    return with_digests(
        from_mapping({**data, **settings}, str(block.location))
        for settings in show_progress(settings_of_cells(block), "combining")
    )


def split_into_sets(
    configs: Sequence[RunConfig], per_file: int | None = None
) -> Iterator[list[RunConfig]]:
    """Cut a grid into sets of `per_file` runs, or by model, scheduler and augmentation."""
    if per_file:
        for first in range(0, len(configs), per_file):
            yield list(configs[first : first + per_file])
    else:
        for _, members in groupby(
            configs, lambda c: (c.model_type, c.scheduler, c.data_augmentation)
        ):
            yield list(members)
