"""What a data set is, whether it comes from a disk or from a formula."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

ImageArray = npt.NDArray[np.uint8]
LabelArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Images (N, 32, 32, 3) uint8, RGB, and labels (N,) in 0..9."""

    name: str
    train_images: ImageArray
    train_labels: LabelArray
    test_images: ImageArray
    test_labels: LabelArray
    last_batch: int
    """Images in the last training batch, which is the default validation set."""
