"""Stand-ins made by formula: ten shapes, drawn anywhere in any colours, in noise.

For demonstrations and tests without a download. They say nothing about the real data. With more
than ten classes, those of one shape differ in hue.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from src.common.data_names import SYNTHETIC, base_name, image_size
from src.common.errors import UserError
from src.data import cache
from src.data.builtin import BUILT_IN
from src.data.dataset import Dataset, ImageArray, LabelArray, pack
from src.data.spec import CIFAR10, CLASSES, DataSpec

TRAIN_IMAGES = 10_000
TEST_IMAGES = 2_000

_NOISE = 0.15  # standard deviation of a pixel, of full scale
_AT_A_TIME = 500  # images
_CONTRAST = (0.2, 0.75)  # of the shape against its ground

FloatArray = npt.NDArray[np.floating[Any]]


def generate(seed: int = 0, train: int = TRAIN_IMAGES, test: int = TEST_IMAGES) -> Dataset:
    """The stand-in for CIFAR-10, balanced and shuffled. Equal arguments give equal images."""
    spec = DataSpec(SYNTHETIC, CLASSES)
    return Dataset.of_record(_draw(spec, seed, train, test), spec, train // 5)


def stand_in(dataset: str) -> Dataset:
    """The stand-in for a built-in data set, with or without @SIZE, from the cache once drawn.

    Raises UserError if it is not built in.
    """
    name = base_name(dataset)
    if name not in BUILT_IN:
        raise UserError(
            f"--dataset {dataset!r}: there is no stand-in for it; -d names its folder or .npz "
            f"file, or 'synthetic' goes with {', '.join(BUILT_IN)}"
        )
    spec = BUILT_IN[name].spec(f"{SYNTHETIC}-{dataset}", image_size(dataset))
    if dataset == CIFAR10.name:
        spec = DataSpec(SYNTHETIC, CLASSES)
    record = cache.of_files(
        [Path(__file__)],  # the formula
        [cache.layout(TRAIN_IMAGES, TEST_IMAGES, size=spec.size, channels=spec.channels)],
        lambda: _draw(spec, 0, TRAIN_IMAGES, TEST_IMAGES),
        f"{spec.name} {np.__version__}".encode(),
    )
    return Dataset.of_record(record, spec, TRAIN_IMAGES // 5)


def _draw(spec: DataSpec, seed: int, train: int, test: int) -> cache.RecordArray:
    random = np.random.default_rng(seed)
    record = cache.empty(cache.layout(train, test, size=spec.size, channels=spec.channels))
    for part, count in (("train", train), ("test", test)):
        images, labels = _images(random, count, spec)
        pack(images, record[f"{part}_pixels"])
        record[f"{part}_labels"][:] = labels
    return record


def _images(
    random: np.random.Generator, count: int, spec: DataSpec
) -> tuple[ImageArray, LabelArray]:
    classes, size = len(spec.classes), spec.size
    labels = random.permutation(np.arange(count) % classes)

    def uniform(low: float, high: float, *shape: int) -> FloatArray:
        return random.uniform(low, high, (count, *shape)).astype(np.float32)

    centre, radius = uniform(-0.35, 0.35, 2), uniform(0.4, 0.7)
    angle = uniform(-0.3, 0.3)
    ground = uniform(0.1, 0.5, 1, 1, 3)
    slope = uniform(-0.2, 0.2, 1, 1, 3) * np.linspace(-1, 1, size, dtype=np.float32)[:, None, None]
    colour = uniform(0, 1, 1, 1, 3)  # brighter than the ground
    if classes > len(_SHAPES):
        colour = _hues(labels // len(_SHAPES), -(-classes // len(_SHAPES)))
    colour *= uniform(*_CONTRAST, 1, 1, 1) / colour.max(axis=3, keepdims=True)
    images = np.empty((count, size, size, spec.channels), np.uint8)
    for first in range(0, count, _AT_A_TIME):  # as much as a processor's cache holds
        part = slice(first, first + _AT_A_TIME)
        u, v = _own_coordinates(centre[part], radius[part], angle[part], size)
        picture = _inside(labels[part] % len(_SHAPES), u, v)[..., None] * colour[part]
        picture += ground[part] + slope[part]
        noise = random.standard_normal(picture.shape, np.float32)
        noise *= np.float32(_NOISE)
        picture += noise
        if spec.channels == 1:
            picture = picture.mean(axis=3, keepdims=True)
        np.clip(picture, 0, 1, out=picture)
        picture *= 255
        images[part] = np.rint(picture, out=picture)
    return images, labels


def _hues(number: LabelArray, count: int) -> FloatArray:
    """Saturated colours (N, 1, 1, 3) whose hue is `number` / `count` of the colour circle."""
    angle = (2 * np.pi * number / count)[:, None, None, None]
    shift = np.array([0, 1, 2]) * (2 * np.pi / 3)
    return (0.55 + 0.45 * np.cos(angle - shift)).astype(np.float32)


def _inside(labels: LabelArray, u: FloatArray, v: FloatArray) -> FloatArray:
    """1 where a pixel (N, S, S) is inside its image's shape, 0 elsewhere."""
    inside = np.zeros(u.shape, np.float32)
    for label, shape in enumerate(_SHAPES):
        members = labels == label
        inside[members] = shape(u[members], v[members])
    return inside


def _own_coordinates(
    centre: FloatArray, radius: FloatArray, angle: FloatArray, size: int
) -> tuple[FloatArray, FloatArray]:
    """Coordinates (N, S, S) of every pixel as its image's shape sees them: within +-1."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x = axis[None, None, :] - centre[:, 0, None, None]
    y = axis[None, :, None] - centre[:, 1, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    scale = radius[:, None, None]
    return (x * cos + y * sin) / scale, (y * cos - x * sin) / scale


def _box(u: FloatArray, v: FloatArray) -> FloatArray:
    return np.maximum(abs(u), abs(v))


def _plus(u: FloatArray, v: FloatArray) -> npt.NDArray[np.bool_]:
    return (np.minimum(abs(u), abs(v)) < 0.3) & (_box(u, v) < 1)


_SHAPES = (
    lambda u, v: np.hypot(u, v) < 1,  # disc
    lambda u, v: (np.hypot(u, v) < 1) & (np.hypot(u, v) > 0.55),  # ring
    lambda u, v: _box(u, v) < 0.85,  # square
    lambda u, v: (_box(u, v) < 0.9) & (_box(u, v) > 0.5),  # frame
    lambda u, v: (v < 0.8) & (v > 2 * abs(u) - 1),  # triangle
    _plus,
    lambda u, v: _plus((u + v) / 2**0.5, (u - v) / 2**0.5),  # diagonal cross
    lambda u, v: (_box(u, v) < 1) & (np.sin(7 * v) > 0),  # rows
    lambda u, v: (_box(u, v) < 1) & (np.sin(7 * u) > 0),  # columns
    lambda u, v: (_box(u, v) < 1) & (np.sin(5 * u) * np.sin(5 * v) > 0),  # checks
)
