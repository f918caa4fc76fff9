"""Data sets: CIFAR-10, its synthetic stand-in, splits, augmentation and batches on a device."""

from src.config import SYNTHETIC
from src.data import cifar10, synthetic
from src.data.dataset import CLASSES, Dataset

__all__ = ["CLASSES", "Dataset", "load"]


def load(path: str) -> Dataset:
    """The data set at `path`: a folder, or 'synthetic'.

    Raises UserError if the folder holds no CIFAR-10, or is missing and cannot be downloaded.
    """
    return synthetic.generate() if path == SYNTHETIC else cifar10.load(path)
