"""The built-in data sets besides CIFAR-10, read by torchvision and verified by its checksums."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.common.data_names import base_name, image_size
from src.common.errors import UserError, one_line
from src.config import RunConfig
from src.data import cache, image_files
from src.data.dataset import Dataset, ImageArray, pack
from src.data.download import download
from src.data.spec import CLASSES, DataSpec

_DIGITS = tuple("0123456789")
_CIFAR100_CLASSES = (  # alphabetical, as its labels are
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch "
    "crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo "
    "keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse "
    "mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy "
    "porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television "
    "tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm "
)
_FASHION_CLASSES = (
    *("t_shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag"),
    "ankle_boot",
)
_STL10_CLASSES = (
    *("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
)
_IDX_FILES = tuple(
    f"{part}-{kind}"
    for part in ("train", "t10k")
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
)


@dataclass(frozen=True, kw_only=True)
class BuiltIn:
    """A published data set: its size, its files, and the torchvision class that reads them."""

    classes: tuple[str, ...]
    train: int
    """Number of training images."""
    test: int
    channels: int
    folder: str
    """Where its files lie in the folder that torchvision calls its root."""
    files: tuple[str, ...]
    reader: str
    """The class in torchvision.datasets."""
    splits: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})
    """The arguments of the reader for training and for test images."""

    def spec(self, name: str, size: int) -> DataSpec:
        """What models and charts need to know, if images are resized to (size, size)."""
        return DataSpec(name, self.classes, self.channels, size)


_BY_SPLIT = ({"split": "train"}, {"split": "test"})

BUILT_IN = {
    "cifar10": BuiltIn(
        classes=CLASSES,
        train=50_000,
        test=10_000,
        channels=3,
        folder="cifar-10-batches-py",
        files=(),
        reader="CIFAR10",
    ),
    "cifar100": BuiltIn(
        classes=tuple(_CIFAR100_CLASSES.split()),
        train=50_000,
        test=10_000,
        channels=3,
        folder="cifar-100-python",
        files=("train", "test", "meta"),
        reader="CIFAR100",
    ),
    "svhn": BuiltIn(
        classes=_DIGITS,
        train=73_257,
        test=26_032,
        channels=3,
        folder=".",
        files=("train_32x32.mat", "test_32x32.mat"),
        reader="SVHN",
        splits=_BY_SPLIT,
    ),
    "fashion_mnist": BuiltIn(
        classes=_FASHION_CLASSES,
        train=60_000,
        test=10_000,
        channels=1,
        folder="FashionMNIST/raw",
        files=_IDX_FILES,
        reader="FashionMNIST",
    ),
    "mnist": BuiltIn(
        classes=_DIGITS,
        train=60_000,
        test=10_000,
        channels=1,
        folder="MNIST/raw",
        files=_IDX_FILES,
        reader="MNIST",
    ),
    "stl10": BuiltIn(
        classes=_STL10_CLASSES,
        train=5_000,
        test=8_000,
        channels=3,
        folder="stl10_binary",
        files=("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
        reader="STL10",
        splits=_BY_SPLIT,
    ),
}
"""By name; cifar10 has a reader of its own, src/data/cifar10.py."""


def known_spec(config: RunConfig) -> DataSpec | None:
    """What the data of a run tells, if it is built in or a stand-in; else None."""
    name = base_name(config.dataset)
    if name not in BUILT_IN:
        return None
    return BUILT_IN[name].spec(config.data_name, image_size(config.dataset))


def root_of(name: str, path: Path) -> Path | None:
    """The `root` argument of torchvision's class for a data set.

    path: that root, the folder of the files themselves, or a folder with a subfolder `name` that
    is the root. Returns None if the files are in none of these.
    """
    known = BUILT_IN[name]
    parts = Path(known.folder).parts
    inside = [count for count in range(1, len(parts) + 1) if path.parts[-count:] == parts[:count]]
    for root in [path, path / name, *(path.parents[count - 1] for count in inside)]:
        if known.files and all((root / known.folder / file).is_file() for file in known.files):
            return root
    return None


def load(name: str, path: str, *, size: int, spec_name: str) -> Dataset:
    """Read a data set, resized to (size, size); download it where `path` does not exist.

    Raises UserError if its files are missing, damaged, or cannot be downloaded.
    """
    known, folder = BUILT_IN[name], Path(path).expanduser()
    if not folder.exists():
        _download(name, folder)
    root = root_of(name, folder)
    if root is None:
        where = "" if known.folder == "." else f" in {known.folder}/"
        raise UserError(
            f"--base_dataset_path {path!r}: {name} is not there; expected {', '.join(known.files)}"
            f"{where}, as torchvision's {known.reader} keeps them, or 'synthetic'"
        )
    paths = [root / known.folder / file for file in known.files]
    dtype = cache.layout(known.train, known.test, size=size, channels=known.channels)
    record = cache.of_files(paths, [dtype], lambda: _decode(known, root, dtype, size))
    return Dataset.of_record(record, known.spec(spec_name, size))


def _decode(known: BuiltIn, root: Path, dtype: "np.dtype[np.void]", size: int) -> cache.RecordArray:
    """Both parts as torchvision reads them. Raises UserError if one is not what it should be."""
    record = cache.empty(dtype)
    for part, arguments in zip(("train", "test"), known.splits, strict=True):
        source = _opened(known, root, arguments)
        images = _images(source.data)
        labels = np.asarray(getattr(source, "targets", getattr(source, "labels", None)), np.int64)
        count = len(record[f"{part}_labels"])
        if len(images) != count or images.shape[3] != known.channels or labels.shape != (count,):
            raise UserError(
                f"{root / known.folder}: {part} images {images.shape} and labels {labels.shape}; "
                f"expected {count} of both, with {known.channels} channels"
            )
        if not ((labels >= 0) & (labels < len(known.classes))).all():
            raise UserError(f"{root / known.folder}: a label is not 0 to {len(known.classes) - 1}")
        pack(image_files.resize(images, size), record[f"{part}_pixels"])
        record[f"{part}_labels"][:] = labels
    return record


def _opened(known: BuiltIn, root: Path, arguments: dict[str, Any]) -> Any:
    """torchvision's data set. Raises UserError in its words."""
    try:
        return _reader(known)(root, **arguments)
    except Exception as error:  # noqa: BLE001  numpy's, scipy's or torch's, of damaged files
        reason = one_line(error).replace("You can use download=True to download it", "").strip()
        raise UserError(f"{root / known.folder}: not {known.reader}: {reason}") from None


def _reader(known: BuiltIn) -> Callable[..., Any]:
    from torchvision import datasets

    if known.reader != "STL10":
        reader: Callable[..., Any] = getattr(datasets, known.reader)
        return reader

    class LabelledSTL10(datasets.STL10):
        """Without the 2.6 GB of images that have no labels."""

        train_list = datasets.STL10.train_list[:2]

    return LabelledSTL10


def _images(data: Any) -> ImageArray:
    """The images of a torchvision data set as (N, H, W, C) uint8."""
    images = np.asarray(data)
    if images.ndim == 3:
        return images[..., None]
    planes_first = images.shape[1] == 3 and images.shape[3] != 3
    return images.transpose(0, 2, 3, 1) if planes_first else images


def _download(name: str, folder: Path) -> None:
    known = BUILT_IN[name]

    def fetch(scratch: str) -> None:
        for arguments in known.splits:
            _reader(known)(scratch, **arguments, download=True)
        _remove_archives(Path(scratch), known.files)

    part, expected = known.folder.partition("/")[0], f"torchvision's {known.reader}"
    download(folder, part, fetch, name=name, expected=expected)


def _remove_archives(scratch: Path, wanted: Sequence[str]) -> None:
    """Remove what was downloaded and is not read again."""
    for path in scratch.rglob("*"):
        if path.is_file() and path.name not in wanted:
            path.unlink()
