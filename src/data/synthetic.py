"""A stand-in for CIFAR-10 made by formula: ten shapes, drawn anywhere in any colours, in noise.

For demonstrations and tests without a download. It says nothing about CIFAR-10.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from src.config import SYNTHETIC
from src.data.dataset import Dataset, ImageArray, LabelArray, packed

TRAIN_IMAGES = 10_000
TEST_IMAGES = 2_000

_NOISE = 0.15  # standard deviation of a pixel, of full scale
_AT_A_TIME = 500  # images
_CONTRAST = (0.2, 0.75)  # of the shape against its ground

Array = npt.NDArray[np.floating[Any]]


def generate(seed: int = 0, train: int = TRAIN_IMAGES, test: int = TEST_IMAGES) -> Dataset:
    """The stand-in: the same images for the same arguments, balanced classes in random order."""
    random = np.random.default_rng(seed)
    train_images, train_labels = _draw(random, train)
    test_images, test_labels = _draw(random, test)
    return Dataset(
        name=SYNTHETIC,
        train_pixels=packed(train_images),
        train_labels=train_labels,
        test_pixels=packed(test_images),
        test_labels=test_labels,
        last_batch=train // 5,
    )


def _draw(random: np.random.Generator, count: int) -> tuple[ImageArray, LabelArray]:
    labels = random.permutation(np.arange(count) % 10)

    def uniform(low: float, high: float, *shape: int) -> Array:
        return random.uniform(low, high, (count, *shape)).astype(np.float32)

    centre, radius = uniform(-0.35, 0.35, 2), uniform(0.4, 0.7)
    angle = uniform(-0.3, 0.3)
    ground = uniform(0.1, 0.5, 1, 1, 3)
    slope = uniform(-0.2, 0.2, 1, 1, 3) * np.linspace(-1, 1, 32, dtype=np.float32)[:, None, None]
    colour = uniform(0, 1, 1, 1, 3)  # brighter than the ground
    colour *= uniform(*_CONTRAST, 1, 1, 1) / colour.max(axis=3, keepdims=True)
    images = np.empty((count, 32, 32, 3), np.uint8)
    for first in range(0, count, _AT_A_TIME):  # as much as a processor's cache holds
        part = slice(first, first + _AT_A_TIME)
        u, v = _own_coordinates(centre[part], radius[part], angle[part])
        picture = _inside(labels[part], u, v)[..., None] * colour[part]
        picture += ground[part] + slope[part]
        noise = random.standard_normal(picture.shape, np.float32)
        noise *= np.float32(_NOISE)
        picture += noise
        np.clip(picture, 0, 1, out=picture)
        picture *= 255
        images[part] = np.rint(picture, out=picture)
    return images, labels


def _inside(labels: LabelArray, u: Array, v: Array) -> Array:
    """1 where a pixel (N, 32, 32) is inside its image's shape, 0 elsewhere."""
    inside = np.zeros(u.shape, np.float32)
    for label, shape in enumerate(_SHAPES):
        members = labels == label
        inside[members] = shape(u[members], v[members])
    return inside


def _own_coordinates(centre: Array, radius: Array, angle: Array) -> tuple[Array, Array]:
    """Coordinates (N, 32, 32) of every pixel as its image's shape sees them: within +-1."""
    axis = np.linspace(-1, 1, 32, dtype=np.float32)
    x = axis[None, None, :] - centre[:, 0, None, None]
    y = axis[None, :, None] - centre[:, 1, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    scale = radius[:, None, None]
    return (x * cos + y * sin) / scale, (y * cos - x * sin) / scale


def _box(u: Array, v: Array) -> Array:
    return np.maximum(abs(u), abs(v))


def _plus(u: Array, v: Array) -> npt.NDArray[np.bool_]:
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
