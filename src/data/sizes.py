"""The number of images that a run uses, without loading any."""

from functools import cache

from src.common.data_names import DATASETS, base_name
from src.config import RunConfig
from src.data import own_data, synthetic
from src.data.builtin import BUILT_IN
from src.data.split import validation_size


def images_of(config: RunConfig) -> tuple[int, int, int]:
    """How many training, validation and test images a run uses.

    Raises UserError if the data is a person's own, and is not there.
    """
    train, test, last_batch = _counts(config)
    validation = validation_size(config, train, last_batch)
    parts = (train - validation, validation, test)
    most = config.max_images or max(parts)
    return min(parts[0], most), min(parts[1], most), min(parts[2], most)


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
    return own_data.counts(name, path)
