"""Labelled images for a trained model: of its data set, or pictures of any size in folders."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.common.data_names import DATASETS, SYNTHETIC, base_name
from src.common.errors import UserError
from src.common.paths import CIFAR10_FOLDER, TEST_BATCH
from src.config import RunConfig
from src.data import builtin, cifar10, custom_data, image_files, synthetic
from src.data.dataset import Dataset, ImageArray, LabelArray, packed
from src.data.spec import CIFAR10, DataSpec
from src.data.split import split


@dataclass(frozen=True)
class LabelledImages:
    """Packed pixels (N, S, S, P) uint8, and labels (N,), indices of the classes of `spec`."""

    spec: DataSpec
    pixels: ImageArray
    labels: LabelArray
    split: str = "test"
    """Which images of a data set they are: one of SPLITS."""

    @property
    def images(self) -> ImageArray:
        """(N, S, S, C) uint8, RGB or grey: a view of the pixels."""
        return self.pixels[..., : self.spec.channels]


def all_test_images(dataset: Dataset, count: int | None = None) -> LabelledImages:
    """The test images of a data set, or the first `count` of them."""
    return LabelledImages(dataset.spec, dataset.test_pixels[:count], dataset.test_labels[:count])


def images_of_split(dataset: Dataset, part: str, config: RunConfig) -> LabelledImages:
    """The training, validation or test images of a run, without augmentation."""
    if part == "test":
        return all_test_images(dataset, config.max_images or None)
    training, validation = split(dataset, config)
    indices = training if part == "training" else validation
    return LabelledImages(
        dataset.spec, dataset.train_pixels[indices], dataset.train_labels[indices], part
    )


def load_test(
    path: str,
    dataset: str = CIFAR10.name,
    spec: DataSpec = CIFAR10,
    trained_on: str | None = None,
) -> LabelledImages:
    """The test images at `path` for a model that was trained on a data set.

    path: 'synthetic'; the folder of the data set; or a folder (or its test/) with one subfolder of
    images per class of `spec`, of any size: they are resized. Raises UserError if it is none of
    these.
    trained_on: digest of the training data, if it is known. If the images at `path` are custom data
    with this digest and without a test part, only those held out in training are returned.
    """
    if path == SYNTHETIC:
        return all_test_images(synthetic.stand_in(dataset))
    folder, name = Path(path).expanduser(), base_name(dataset)
    if not folder.exists():
        raise UserError(f"--test_path {path!r}: no such folder")
    if name == CIFAR10.name:
        for batch in (folder / TEST_BATCH, folder / CIFAR10_FOLDER / TEST_BATCH):
            if batch.is_file():
                images, labels = cifar10.read_batch(batch)
                return LabelledImages(spec, packed(image_files.resize(images, spec.size)), labels)
    elif name in DATASETS and builtin.root_of(name, folder):
        return all_test_images(builtin.load(name, path, size=spec.size, spec_name=dataset))
    if folder.is_file():
        return _checked(
            all_test_images(custom_data.load(name, path, size=spec.size, spec_name=dataset)), spec
        )
    part = custom_data.part_folders(folder).get("test")
    if part and part.name not in spec.classes:
        return _from_folders(part, spec)
    if trained_on and name not in DATASETS:
        with suppress(UserError):
            whole = custom_data.load(name, path, size=spec.size, spec_name=dataset)
            if whole.digest == trained_on:
                return all_test_images(whole)
    return _from_folders(folder, spec)


def _checked(images: LabelledImages, spec: DataSpec) -> LabelledImages:
    """The images, if they are of the classes and channels of `spec`. Raises UserError."""
    if (images.spec.classes, images.spec.channels) != (spec.classes, spec.channels):
        raise UserError(
            f"--test_path: {len(images.spec.classes)} classes, {images.spec.channels} channels; "
            f"expected {len(spec.classes)} and {spec.channels}: {', '.join(spec.classes[:10])}"
        )
    return images


def _from_folders(root: Path, spec: DataSpec) -> LabelledImages:
    """Every picture under <root>/<class name>/, class by class."""
    _check_classes(root, spec)
    by_class = [custom_data.picture_files(root / name) for name in spec.classes]
    for name, pictures in zip(spec.classes, by_class, strict=True):
        if not pictures:
            raise UserError(f"--test_path {str(root)!r}: no pictures in {name}/")
    files = [path for pictures in by_class for path in pictures]
    labels = np.repeat(np.arange(len(by_class)), [len(pictures) for pictures in by_class])
    images = np.stack(list(image_files.read_files(files, spec.channels, spec.size)))
    return LabelledImages(spec, packed(images), labels.astype(np.int64))


def _check_classes(root: Path, spec: DataSpec) -> None:
    folders = {folder.name for folder in custom_data.class_folders(root)}
    problems = [
        f"{word} {', '.join(sorted(names))}"
        for word, names in (
            ("unknown", folders - {*spec.classes}),
            ("missing", {*spec.classes} - folders),
        )
        if names
    ]
    if problems:
        raise UserError(
            f"--test_path {str(root)!r}: no {base_name(spec.name)} in it, nor a subfolder for each "
            f"class: {'; '.join(problems)} (expected {', '.join(spec.classes)})"
        )
