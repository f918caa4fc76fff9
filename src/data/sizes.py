"""The number of images that a run uses, without loading any."""

from src.config import SYNTHETIC, RunConfig
from src.data import synthetic

_CIFAR10 = {"train": 50_000, "test": 10_000}
_STAND_IN = {"train": synthetic.TRAIN_IMAGES, "test": synthetic.TEST_IMAGES}


def images_of(config: RunConfig) -> tuple[int, int, int]:
    """How many training, validation and test images a run uses."""
    whole = _STAND_IN if config.base_dataset_path == SYNTHETIC else _CIFAR10
    validation = whole["train"] // 5 if config.val_split == "last_batch" else config.val_size
    parts = (whole["train"] - validation, validation, whole["test"])
    most = config.max_images or whole["train"]
    return min(parts[0], most), min(parts[1], most), min(parts[2], most)
