"""A data set of images and labels in host memory."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from src.data.spec import DataSpec

ImageArray = npt.NDArray[np.uint8]
LabelArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Packed pixels (N, S, S, P) uint8, see `packed`, and labels (N,), indices of classes."""

    spec: DataSpec
    train_pixels: ImageArray
    train_labels: LabelArray
    test_pixels: ImageArray
    test_labels: LabelArray
    last_batch: int
    """Images in the last training batch, the default validation set; 0: a stratified fifth."""

    @classmethod
    def of_record(
        cls, record: npt.NDArray[np.void], spec: DataSpec, last_batch: int = 0
    ) -> "Dataset":
        """A data set whose arrays are views of a record with fields of the same names."""
        return cls(
            spec=spec,
            train_pixels=record["train_pixels"],
            train_labels=record["train_labels"],
            test_pixels=record["test_pixels"],
            test_labels=record["test_labels"],
            last_batch=last_batch,
        )

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
        """(N, S, S, C) uint8, RGB or grey: a view of the pixels."""
        return self.train_pixels[..., : self.spec.channels]

    @property
    def test_images(self) -> ImageArray:
        """(N, S, S, C) uint8, RGB or grey: a view of the pixels."""
        return self.test_pixels[..., : self.spec.channels]


def other_data(trained_on: str, here: str) -> str:
    """What to say of a run that was trained on other data than is here, given both digests."""
    return (
        f"trained on data {trained_on}, and the data here is {here}: move the folder of the run, "
        "or name the data that it was trained on"
    )


def bytes_per_pixel(channels: int) -> int:
    """Bytes that a packed pixel takes: a word of R G B 0, or one of grey."""
    return 4 if channels == 3 else 1


def packed(images: ImageArray) -> ImageArray:
    """Images (N, S, S, 3) as pixels (N, S, S, 4): R G B 0. Grey ones (N, S, S, 1) as they are."""
    pixels = np.zeros((*images.shape[:3], bytes_per_pixel(images.shape[3])), np.uint8)
    pack(images, pixels)
    return pixels


def pack(images: ImageArray, pixels: ImageArray) -> None:
    """Copy images (N, S, S, C) into the first C bytes of pixels (N, S, S, P).

    A channel at a time: planes as CIFAR-10 has them are copied in less than half the time.
    """
    for channel in range(images.shape[3]):
        pixels[..., channel] = images[..., channel]
