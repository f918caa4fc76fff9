"""A data set of images and labels in host memory."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

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
    """Pixels (N, 32, 32, 4) uint8, bytes R G B 0, and labels (N,) in 0..9."""

    name: str
    train_pixels: ImageArray
    train_labels: LabelArray
    test_pixels: ImageArray
    test_labels: LabelArray
    last_batch: int
    """Images in the last training batch, which is the default validation set."""

    @cached_property
    def digest(self) -> str:
        """16 hex digits of all pixels and labels: equal exactly for equal data. Half a second."""
        content = hashlib.sha256()
        for array in (self.train_pixels, self.train_labels, self.test_pixels, self.test_labels):
            content.update(str(array.shape).encode())
            content.update(np.ascontiguousarray(array).data)
        return content.hexdigest()[:16]

    @property
    def train_images(self) -> ImageArray:
        """(N, 32, 32, 3) uint8, RGB: a view of the pixels."""
        return self.train_pixels[..., :3]

    @property
    def test_images(self) -> ImageArray:
        """(N, 32, 32, 3) uint8, RGB: a view of the pixels."""
        return self.test_pixels[..., :3]


def packed(images: ImageArray) -> ImageArray:
    """Images (N, 32, 32, 3) as pixels (N, 32, 32, 4): R G B 0, each a word of four bytes."""
    pixels = np.zeros((*images.shape[:3], 4), np.uint8)
    pack(images, pixels)
    return pixels


def pack(images: ImageArray, pixels: ImageArray) -> None:
    """Copy images (N, 32, 32, 3) into pixels (N, 32, 32, 4) whose fourth bytes are 0.

    A channel at a time: planes as CIFAR-10 has them are copied in less than half the time.
    """
    for channel in range(3):
        pixels[..., channel] = images[..., channel]
