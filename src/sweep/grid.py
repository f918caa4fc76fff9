"""Grids: every combination of lists of values, each a run."""

from collections.abc import Iterator, Sequence
from itertools import groupby, product
from pathlib import Path

from src.common.errors import UserError
from src.common.option_fields import did_you_mean
from src.common.progress import ShowProgress, silent
from src.config import RunConfig, field_names, from_mapping, read_yaml

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

_ORDER = ["model_type", "scheduler", "data_augmentation", "learning_rate", "weight_decay", "gamma"]
_MAX_CELLS = 100_000


def read(path: Path) -> dict[str, object]:
    """A grid file: a YAML mapping of settings to a value or to a list of values.

    Raises UserError naming the file and what is wrong in it.
    """
    grid = read_yaml(path)
    for name, values in grid.items():
        if name not in field_names():
            raise UserError(f"{path}: unknown setting {name!r}{did_you_mean(name, field_names())}")
        if values == []:
            raise UserError(f"{path}: {name} has no values; expected a value or a list of values")
    return grid


def expand(
    grid: dict[str, object], source: str = "grid", show_progress: ShowProgress = silent
) -> list[RunConfig]:
    """Every combination, ordered by model, scheduler, augmentation, rate, decay, gamma, the rest.

    show_progress: wraps the combinations while they are made.
    Raises UserError that begins with `source` if a value is wrong.
    """
    names = sorted(grid, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    axes = [values if isinstance(values := grid[name], list) else [values] for name in names]
    count = 1
    for axis in axes:
        count *= len(axis)
    if count > _MAX_CELLS:
        raise UserError(f"{source}: {count} combinations; expected at most {_MAX_CELLS}")
    settings = {
        "base_dataset_path": RunConfig.base_dataset_path
    }  # the location of the data is resolved by each run
    return [
        from_mapping({**settings, **dict(zip(names, values, strict=True))}, source)
        for values in show_progress(list(product(*axes)), "combining")
    ]


def by_set(configs: Sequence[RunConfig], per_file: int | None = None) -> Iterator[list[RunConfig]]:
    """Cut a grid into sets of `per_file` runs, or by model, scheduler and augmentation."""
    if per_file:
        for first in range(0, len(configs), per_file):
            yield list(configs[first : first + per_file])
    else:
        for _, members in groupby(
            configs, lambda c: (c.model_type, c.scheduler, c.data_augmentation)
        ):
            yield list(members)
