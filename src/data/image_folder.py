"""Labelled test images: those of CIFAR-10 or its stand-in, or pictures of any size in folders."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.common.errors import UserError
from src.common.paths import CIFAR10_FOLDER, TEST_BATCH
from src.config import SYNTHETIC
from src.data import cifar10, synthetic
from src.data.augmentation import SIZE
from src.data.dataset import CLASSES, ImageArray, LabelArray, packed


@dataclass(frozen=True)
class LabelledImages:
    """Pixels (N, 32, 32, 4) uint8, bytes R G B 0, and labels (N,) in 0..9."""

    pixels: ImageArray
    labels: LabelArray

    @property
    def images(self) -> ImageArray:
        """(N, 32, 32, 3) uint8, RGB: a view of the pixels."""
        return self.pixels[..., :3]


def load_test(path: str) -> LabelledImages:
    """The test images at `path`.

    path: 'synthetic'; a folder with CIFAR-10's test_batch in it or in cifar-10-batches-py/; or
    one with a subfolder for each class name, of images of any size, which are resized to 32x32.
    Raises UserError if it is none of these.
    """
    if path == SYNTHETIC:
        dataset = synthetic.generate()
        return LabelledImages(dataset.test_pixels, dataset.test_labels)
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"--test_path {path!r}: no such folder")
    for batch in (folder / TEST_BATCH, folder / CIFAR10_FOLDER / TEST_BATCH):
        if batch.is_file():
            images, labels = cifar10.read_batch(batch)
            return LabelledImages(packed(images), labels)
    return _from_folders(folder)


def _from_folders(root: Path) -> LabelledImages:
    """Every image under <root>/<class name>/, in the order of torchvision's ImageFolder."""
    from torchvision.datasets import ImageFolder  # seconds to import

    class Folders(ImageFolder):
        def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
            _check_classes(Path(directory))
            return list(CLASSES), {name: label for label, name in enumerate(CLASSES)}

    try:
        folders = Folders(root, loader=_resized)
    except FileNotFoundError as error:  # a class without images
        raise UserError(f"--test_path {str(root)!r}: {error}") from None
    images = np.stack([image for image, _ in folders])
    return LabelledImages(packed(images), np.array(folders.targets, dtype=np.int64))


def _check_classes(root: Path) -> None:
    found = {entry.name for entry in os.scandir(root) if entry.is_dir()}
    found = {name for name in found if not name.startswith((".", "__"))}
    problems = [
        f"{word} {', '.join(sorted(names))}"
        for word, names in (("unknown", found - {*CLASSES}), ("missing", {*CLASSES} - found))
        if names
    ]
    if problems:
        raise UserError(
            f"--test_path {str(root)!r}: no CIFAR-10 test_batch in it, nor a subfolder for each "
            f"class: {'; '.join(problems)} (expected {', '.join(CLASSES)})"
        )


def _resized(path: str) -> Any:
    """The image in a file as (32, 32, 3) uint8, bilinear with antialiasing where it is larger."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not an image: {error}") from None
    return np.asarray(small)
