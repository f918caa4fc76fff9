"""What a data set tells to models, metrics and charts: its classes and the shape of its images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
"""The classes of CIFAR-10, in the order of its labels."""

MAX_CLASSES = 1000
_MAX_NAME = 64  # characters of a class name


@dataclass(frozen=True)
class DataSpec:
    """Name, classes in the order of the labels, and images (channels, size, size)."""

    name: str
    classes: tuple[str, ...]
    channels: int = 3
    """3 for colour, 1 for grey."""
    size: int = 32
    """Side of an image in pixels, a power of two."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image as models see it."""
        return self.channels, self.size, self.size

    def stored(self) -> dict[str, Any]:
        """As a mapping for JSON, which `from_stored` reads."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "channels": self.channels,
            "size": self.size,
        }


CIFAR10 = DataSpec("cifar10", CLASSES)


_TITLES = {
    "cifar10": "CIFAR-10",
    "synthetic": "synthetic data",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "fashion_mnist": "Fashion-MNIST",
    "mnist": "MNIST",
    "stl10": "STL-10",
}


def title_of_data(name: str) -> str:
    """The name of a data set for titles, given `RunConfig.data_name`."""
    stem, at, size = name.partition("@")
    prefix = "synthetic-"
    if stem.startswith(prefix):
        return f"the stand-in for {title_of_data(name.removeprefix(prefix))}"
    return _TITLES.get(stem, stem) + (f" at {size} x {size}" if at else "")


def from_stored(values: object) -> DataSpec | None:
    """What `DataSpec.stored` returned. None if it is anything else."""
    if not isinstance(values, Mapping):
        return None
    name, classes = values.get("name"), values.get("classes")
    channels, size = values.get("channels"), values.get("size")
    if not isinstance(name, str) or not isinstance(classes, list) or channels not in (1, 3):
        return None
    if type(size) is not int or not 1 <= size <= 1024 or class_problem(classes):
        return None
    return DataSpec(name, tuple(classes), channels, size)


def class_problem(classes: object) -> str | None:
    """What is wrong with a list of class names, in words; None if nothing is."""
    if not isinstance(classes, list) or not 2 <= len(classes) <= MAX_CLASSES:
        count = len(classes) if isinstance(classes, list) else "no"
        return f"{count} classes; expected 2 to {MAX_CLASSES}"
    for name in classes:
        if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name) <= _MAX_NAME:
            return f"class {name!r}; expected a name of 1 to {_MAX_NAME} printable characters"
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        return f"class {twice!r} is listed twice"
    return None
