"""The number of images that a run uses, without loading any."""

from src.config import DATASETS, RunConfig, base_name
from src.data import own_data, synthetic
from src.data.builtin import BUILT_IN


def images_of(config: RunConfig) -> tuple[int, int, int]:
    """How many training, validation and test images a run uses.

    Raises UserError if the data is a person's own, and is not there.
    """
    train, test = _counts(config)
    validation = train // 5 if config.val_split == "last_batch" else config.val_size
    parts = (train - validation, validation, test)
    most = config.max_images or train
    return min(parts[0], most), min(parts[1], most), min(parts[2], most)


def _counts(config: RunConfig) -> tuple[int, int]:
    """Number of training and of test images."""
    name = base_name(config.dataset)
    if config.is_synthetic:
        return synthetic.TRAIN_IMAGES, synthetic.TEST_IMAGES
    if name in DATASETS:
        return BUILT_IN[name].train, BUILT_IN[name].test
    return own_data.counts(name, config.base_dataset_path)
