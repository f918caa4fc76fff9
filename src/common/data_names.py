"""The names of data sets, where they are by default, and what they add to the names of runs."""

import os
from pathlib import Path

SYNTHETIC = "synthetic"
CIFAR10_PATH = "./cifar-10"
DATASETS = ("cifar10", "cifar100", "svhn", "fashion_mnist", "mnist", "stl10")
IMAGE_SIZE = 32  # images are resized to it, unless @SIZE follows the name of a data set
OTHER_SIZES = (16, 64, 128)

SPLITS = ("training", "validation", "test")
"""The parts of a data set that a run trains, chooses its weights and is tested on."""

DATA_PART = "_data_"
"""In the name of a run, before the name of its data set."""


def group_name(model: str, data_name: str) -> str:
    """The name of `RunConfig.group`, given an architecture and `RunConfig.data_name`."""
    is_default = data_name in (DATASETS[0], SYNTHETIC)
    return model if is_default else f"{model} on {data_name}"


def base_name(dataset: str) -> str:
    """The name of a data set without @SIZE."""
    return dataset.partition("@")[0]


def image_size(dataset: str) -> int:
    """The side of the images of a data set in pixels, given its name with or without @SIZE."""
    return int(dataset.partition("@")[2] or IMAGE_SIZE)


def default_dataset_path(dataset: object = DATASETS[0]) -> str:
    """The default of -d for a data set: CIFAR10_DIR if it is set; ./NAME for other than CIFAR-10.

    DATASETS_DIR, where it is set, is the folder that holds those others.
    """
    name = base_name(str(dataset))
    if name == DATASETS[0]:
        return os.environ.get("CIFAR10_DIR") or CIFAR10_PATH
    return str(Path(os.environ.get("DATASETS_DIR") or ".") / name)
