"""Data sets: built in, one's own, or stand-ins; splits, augmentation and batches on a device."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from src.common.data_names import DATASETS, SYNTHETIC, base_name, image_size
from src.common.errors import UserError
from src.data import builtin, cifar10, custom_data, synthetic
from src.data.dataset import Dataset
from src.data.spec import CIFAR10, CLASSES, DataSpec

__all__ = [
    "CLASSES",
    "DataKey",
    "DataSpec",
    "Dataset",
    "LoadedData",
    "is_here",
    "load",
    "load_present",
    "looks_like",
    "recognise",
]


DataKey = tuple[str, str]
"""Where a data set is, and its name: `RunConfig.data_key`."""

LoadedData = dict[DataKey, Dataset]
"""Data sets in memory."""


def load(path: str, dataset: str = CIFAR10.name) -> Dataset:
    """The data set of a name at `path`: a folder, an .npz file, or 'synthetic' for a stand-in.

    dataset: a built-in name or one's own, with or without @SIZE. Raises UserError if it is not
    there, is damaged, or cannot be downloaded.
    """
    name, size = base_name(dataset), image_size(dataset)
    if path == SYNTHETIC:
        return synthetic.stand_in(dataset)
    if name == CIFAR10.name:
        return cifar10.load(path, size=size, spec_name=dataset)
    if name in DATASETS:
        return builtin.load(name, path, size=size, spec_name=dataset)
    return custom_data.load(name, path, size=size, spec_name=dataset)


def is_here(path: str) -> bool:
    """Whether there is something at a data path; stand-ins are everywhere."""
    return path == SYNTHETIC or Path(path).expanduser().exists()


def load_present(keys: Iterable[DataKey], datasets: LoadedData) -> None:
    """Add to `datasets` those of `keys` whose files are here and can be read.

    Nothing is downloaded. Stand-ins are left out: they are the same everywhere.
    """
    for key in set(keys) - set(datasets):
        if key[0] != SYNTHETIC and is_here(key[0]):
            with suppress(UserError):
                datasets[key] = load(*key)


def looks_like(path: str) -> str | None:
    """The name of the built-in data set whose files are in a folder, or None."""
    folder = Path(path).expanduser()
    return next((name for name in DATASETS if builtin.root_of(name, folder)), None)


def recognise(path: str) -> str | None:
    """The built-in data set at `path`, for a command line that names none.

    None for CIFAR-10, a stand-in, and if nothing is there. Raises UserError that suggests a name
    if a person's own data is there.
    """
    if path == SYNTHETIC or not is_here(path) or cifar10.folder_of(path):
        return None
    if (built_in := looks_like(path)) or not (kind := custom_data.kind_of(path)):
        return built_in
    raise UserError(
        f"-d/--base_dataset_path {path!r}: no CIFAR-10 in it, but {kind}; "
        f"--dataset {custom_data.suggested_name(path)} gives it a name"
    )
