"""The number of images that a run uses, without loading any."""

from functools import cache
from typing import NamedTuple

from src.common.data_names import DATASETS, base_name
from src.config import RunConfig
from src.data import custom_data, synthetic
from src.data.builtin import BUILT_IN
from src.data.split import validation_size


class ImageCounts(NamedTuple):
    """Number of images in each part of a data set."""

    train: int
    validation: int
    test: int


def images_of(config: RunConfig) -> ImageCounts:
    """How many images of each part a run uses.

    Raises UserError if the data is a person's own, and is not there.
    """
    train, test, last_batch = _counts(config)
    validation = validation_size(config, train, last_batch)
    parts = (train - validation, validation, test)
    limit = config.max_images or max(parts)
    return ImageCounts(*(min(part, limit) for part in parts))


def _counts(config: RunConfig) -> tuple[int, int, int]:
    """Number of training and of test images; and of the last batch, 0 if there is none."""
    name = base_name(config.dataset)
    if config.is_synthetic:
        return synthetic.TRAIN_IMAGES, synthetic.TEST_IMAGES, 0
    if name in DATASETS:
        return BUILT_IN[name].train, BUILT_IN[name].test, 0
    return _own_counts(name, config.base_dataset_path)


@cache  # thousands of runs share a folder, whose pictures are listed
def _own_counts(name: str, path: str) -> tuple[int, int, int]:
    return custom_data.counts(name, path)
