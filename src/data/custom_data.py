"""A person's own data set: a folder with a folder of pictures for each class, or one .npz file.

A folder may hold train/, test/ and val/ with the class folders in each. An .npz holds `images` and
`labels`, or both for each part as MedMNIST has them: `train_images`, `train_labels`, `test_...`,
`val_...`; and `classes`, the names of the labels from 0. Without a test part, a stratified fifth
is it; a val part is the last batch of the training images.
"""

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from src.common.errors import UserError, one_line
from src.data import cache, image_files
from src.data.dataset import Dataset, ImageArray, LabelArray, pack
from src.data.spec import MAX_CLASSES, DataSpec, class_problem
from src.data.split import stratified

_PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names that the folder of a part may have."""
_TRAIN = _PARTS["train"]
_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
_ORDER_SEED = 0  # of the fixed order of the training images, and of a test part taken from them
_MIN_TRAIN = 3  # images
_LOOKED_FOR = (
    "a folder with a folder of pictures for each class (or train/, test/ and val/ of such), or an "
    ".npz file with images and labels"
)


@dataclass(frozen=True)
class _Part:
    """Where the images of a part come from, and their labels (N,)."""

    images: Sequence[Path] | str
    """Picture files, or the name of an array in the .npz."""
    labels: LabelArray


@dataclass(frozen=True)
class _Source:
    """What a folder or file holds, with the pictures still in their files."""

    path: Path
    classes: tuple[str, ...]
    parts: Mapping[str, _Part]
    """By name: train, and val and test where they are given."""

    def counts(self) -> tuple[int, int, int]:
        """Number of training images, those of val included; of test images; of those of val."""
        count = {name: len(part.labels) for name, part in self.parts.items()}
        train, test, val = count["train"], count.get("test", 0), count.get("val", 0)
        if not test:
            test = train // 5
            train -= test
        return train + val, test, val


def find(name: str, path: str) -> Path:
    """The folder or .npz of a data set: `path`, or `name` or `name`.npz in it. Raises UserError."""
    given = Path(path).expanduser()
    for place in (given / name, given / f"{name}.npz", given):
        if place.is_file() and place.suffix == ".npz":
            return place
        if place.is_dir() and any(_folders(place)):
            return place
    what = "no such folder or file" if not given.exists() else f"no data set {name!r} in it"
    raise UserError(f"--base_dataset_path {path!r}: {what}; expected {_LOOKED_FOR}")


def kind_of(path: str) -> str | None:
    """What of a person's own data is at `path`, in words; None if nothing is."""
    place = Path(path).expanduser()
    if place.is_file():
        return "an .npz file" if place.suffix == ".npz" else None
    folders = _folders(place) if place.is_dir() else []
    inner = [
        subfolder
        for folder in folders
        if folder.name.lower() in _TRAIN
        for subfolder in _folders(folder)
    ]
    with_pictures = [folder for folder in inner or folders if picture_files(folder)]
    return "a folder of pictures for each class" if len(with_pictures) > 1 else None


def suggested_name(path: str) -> str:
    """A name for the data at `path`: that of its file or folder, as far as it is allowed."""
    stem = Path(path).expanduser().resolve().stem
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-")
    return name if name[:1].isalpha() else f"data_{name}".rstrip("_")


def counts(name: str, path: str) -> tuple[int, int, int]:
    """Number of training and of test images, and of those of val among the former.

    No image is read. Raises UserError.
    """
    return _source(find(name, path)).counts()


def load(name: str, path: str, *, size: int, spec_name: str) -> Dataset:
    """Read a data set, resized to (size, size). Raises UserError that names what is wrong.

    Images are grey if all pictures are. The training images are in a fixed random order.
    """
    source = _source(find(name, path))
    train, test, val = source.counts()
    if train < _MIN_TRAIN or test < 1:
        raise UserError(f"{source.path}: {train} training and {test} test images; expected more")
    kinds = [cache.layout(train, test, size=size, channels=channels) for channels in (3, 1)]
    files, names = _files_of(source)
    record = cache.of_files(files, kinds, lambda: _decode(source, size), names)
    pixel_bytes = record["train_pixels"].shape[-1]
    spec = DataSpec(spec_name, source.classes, 3 if pixel_bytes == 4 else 1, size)
    return Dataset.of_record(record, spec, val)


def class_folders(path: Path) -> list[Path]:
    """The folders of the classes in `path`, in the order of the labels."""
    return sorted(_folders(path))


def part_folders(path: Path) -> dict[str, Path]:
    """The folders of the parts in `path` by name: train, val and test where they are there."""
    return {
        part: folder
        for part, names in _PARTS.items()
        for folder in _folders(path)
        if folder.name.lower() in names
    }


def picture_files(folder: Path) -> list[Path]:
    """The picture files in a folder and the folders in it, in a fixed order."""
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in _EXTENSIONS)
    return sorted(path for path in paths if path.is_file() and not path.name.startswith("."))


def _folders(path: Path) -> "list[Path]":
    return [p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))]


def _source(path: Path) -> _Source:
    return _npz_source(path) if path.is_file() else _folder_source(path)


# folders


def _folder_source(path: Path) -> _Source:
    by_part = part_folders(path)
    if "train" not in by_part:
        by_part = {"train": path}
    names = {part: [f.name for f in class_folders(folder)] for part, folder in by_part.items()}
    classes = names["train"]
    for part, others in names.items():
        if others != classes:
            differ = ", ".join(sorted(set(others) ^ set(classes))[:8])
            raise UserError(f"{by_part[part]}: its classes are not those of train: {differ}")
    if problem := class_problem(classes):
        raise UserError(f"{path}: {problem}")
    parts = {part: _part_of_folder(folder, classes) for part, folder in by_part.items()}
    return _Source(path, tuple(classes), parts)


def _part_of_folder(folder: Path, classes: Sequence[str]) -> _Part:
    files, labels = [], []
    for label, name in enumerate(classes):
        pictures = picture_files(folder / name)
        if not pictures:
            raise UserError(
                f"{folder / name}: no pictures; expected files named {', '.join(_EXTENSIONS)}"
            )
        files += pictures
        labels += [label] * len(pictures)
    return _Part(files, np.array(labels, np.int64))


def _files_of(source: _Source) -> tuple[list[Path], bytes]:
    """The files that the data is read from, and their names: these give the labels."""
    if source.path.is_file():
        return [source.path], b"npz"
    files = [path for part in source.parts.values() for path in part.images]
    names = [str(Path(path).relative_to(source.path)) for path in files]
    return [Path(path) for path in files], json.dumps([names, source.classes]).encode()


# .npz files


def _npz_source(path: Path) -> _Source:
    with _opened(path) as arrays:
        keys = set(arrays.files)
        prefixes = {"train": "train_", "val": "val_", "test": "test_"}
        if {"images", "labels"} <= keys:
            prefixes["train"] = ""
        elif not {"train_images", "train_labels"} <= keys:
            held = ", ".join(sorted(keys)) or "nothing"
            raise UserError(
                f"{path}: it holds {held}; expected images and labels, or train_images and "
                "train_labels (and test_..., val_...)"
            )
        class_names = _array(path, arrays, "classes").tolist() if "classes" in keys else None
        labels = {
            part: _array(path, arrays, f"{prefix}labels")
            for part, prefix in prefixes.items()
            if f"{prefix}images" in keys and f"{prefix}labels" in keys
        }
    if not labels["train"].size:
        raise UserError(f"{path}: no training images in it; expected at least one of each class")
    labels = {part: values for part, values in labels.items() if values.size}
    classes, numbers = _classes_and_labels(path, labels, class_names)
    parts = {part: _Part(f"{prefixes[part]}images", numbers[part]) for part in numbers}
    return _Source(path, classes, parts)


def _classes_and_labels(
    path: Path, labels: Mapping[str, npt.NDArray[Any]], class_names: list[str] | None
) -> tuple[tuple[str, ...], dict[str, LabelArray]]:
    """The class names, and the labels of each part as indices of them. Raises UserError."""
    flat = {
        part: values[:, 0] if values.shape[1:] == (1,) else values
        for part, values in labels.items()
    }
    for part, values in flat.items():
        if values.ndim != 1 or values.dtype.kind not in "iuU":
            raise UserError(
                f"{path}: {part} labels {values.shape} {values.dtype}; expected (N,), whole "
                "numbers or names of classes"
            )
    if {values.dtype.kind for values in flat.values()} & {"U"}:
        texts = {part: values.astype(str) for part, values in flat.items()}
        classes = class_names or sorted(
            {text for values in texts.values() for text in values.tolist()}
        )
        _check_classes(path, classes)
        number = {name: label for label, name in enumerate(classes)}
        unknown = [t for values in texts.values() for t in set(values.tolist()) if t not in number]
        if unknown:
            raise UserError(f"{path}: label {unknown[0]!r} is none of its classes")
        flat = {
            part: np.array([number[t] for t in values.tolist()]) for part, values in texts.items()
        }
        return tuple(classes), {part: values.astype(np.int64) for part, values in flat.items()}
    largest = max(int(values.max(initial=0)) for values in flat.values())
    if largest >= MAX_CLASSES:
        raise UserError(f"{path}: label {largest}; expected at most {MAX_CLASSES - 1}")
    classes = class_names or [str(label) for label in range(largest + 1)]
    _check_classes(path, classes)
    for part, values in flat.items():
        if len(values) and not (int(values.min()) >= 0 and int(values.max()) < len(classes)):
            raise UserError(
                f"{path}: {part} labels from {values.min()} to {values.max()}; "
                f"expected 0 to {len(classes) - 1}"
            )
    return tuple(classes), {part: values.astype(np.int64) for part, values in flat.items()}


def _check_classes(path: Path, classes: object) -> None:
    if problem := class_problem(classes):
        raise UserError(f"{path}: {problem}")


def _npz_images(path: Path, name: str, count: int) -> ImageArray:
    """Images (N, H, W, C) uint8 of an .npz. Raises UserError."""
    with _opened(path) as arrays:
        images = _array(path, arrays, name)
    if images.ndim == 3:
        images = images[..., None]
    shape = images.shape
    if images.dtype != np.uint8 or images.ndim != 4 or shape[3] not in (1, 3) or 0 in shape:
        raise UserError(
            f"{path}: {name} {shape} {images.dtype}; expected uint8, (N, height, width, 3) or "
            "(N, height, width)"
        )
    if len(images) != count:
        raise UserError(f"{path}: {len(images)} images in {name}, but {count} labels")
    return images


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    with file:
        try:
            opened = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: not an .npz file: {one_line(error)}") from None
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise UserError(f"{path}: not an .npz file, but a single array")
        with opened:
            yield opened


def _array(path: Path, arrays: Any, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(arrays[name])
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: {name} cannot be read: {one_line(error)}") from None


# both


def _decode(source: _Source, size: int) -> cache.RecordArray:
    """All images in the order that `load` says."""
    train, test, _ = source.counts()
    images = {part: _images_of(source, part, size) for part in source.parts}
    channels = max(images[part].shape[3] for part in images)
    record = cache.empty(cache.layout(train, test, size=size, channels=channels))
    given = source.parts["train"].labels
    order = np.random.default_rng(_ORDER_SEED).permutation(len(given))
    if len(source.parts["test"].labels if "test" in source.parts else ()) == 0:
        held_out = stratified(given, test, _ORDER_SEED)
        is_test = np.zeros(len(given), bool)
        is_test[held_out] = True
        test_part = images["train"][is_test], given[is_test]
        order = order[~is_test[order]]
    else:
        test_part = images["test"], source.parts["test"].labels
    last = len(order)
    _fill(record, "train", slice(0, last), images["train"][order], given[order])
    if "val" in source.parts:
        val = slice(last, train)
        _fill(record, "train", val, images["val"], source.parts["val"].labels)
    _fill(record, "test", slice(0, test), *test_part)
    return record


def _fill(
    record: cache.RecordArray, part: str, place: slice, images: ImageArray, labels: LabelArray
) -> None:
    pixels = record[f"{part}_pixels"][place]
    wide = 1 if pixels.shape[3] == 1 else 3
    pack(np.broadcast_to(images, (*images.shape[:3], wide)), pixels)  # grey among colours
    record[f"{part}_labels"][place] = labels


def _images_of(source: _Source, part: str, size: int) -> ImageArray:
    """The images of a part, (N, size, size, C)."""
    images_of_part, count = source.parts[part].images, len(source.parts[part].labels)
    if isinstance(images_of_part, str):
        return image_files.resize(_npz_images(source.path, images_of_part, count), size)
    channels = 1 if image_files.all_grey(_files_of(source)[0]) else 3
    images = np.empty((count, size, size, channels), np.uint8)
    decoded = image_files.read_files(images_of_part, channels, size)
    for place, image in zip(images, decoded, strict=True):
        place[:] = image
    return images
