"""Augmentation as a pure function: draws from a counter, and one gather for all of them.

A draw depends on (seed, epoch, sample, operation) alone, so it is the same on every device and
for every batch size, slot and restart. The gather composes what torchvision's
RandomHorizontalFlip, RandomRotation (nearest neighbour, zero fill) and RandomCrop (zero padding)
do one after the other to a PIL image.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.config import RunConfig

SIZE = 32
_BITS = 5  # of a coordinate
_FAR = 4096
ANGLES = 4096  # equally spaced: for +-15 degrees one step moves a corner by 1/350 pixel

_FLIP, _ROTATE, _CROP_Y, _CROP_X, SHUFFLE = range(5)  # operations, in the draws' key
_WORD = 0xFFFFFFFF


def hashed(seed: int, epoch: int | Tensor, operation: int | Tensor, counter: Tensor) -> Tensor:
    """A uniform 32-bit number in int64 for each entry of `counter` (int64, any shape).

    Rounds of the 32-bit finalizer of MurmurHash3 over the words of the key. epoch and operation
    may be int64 tensors, which are broadcast against counter.
    """
    word: Any = 0
    for part in (seed & _WORD, seed >> 32, epoch, operation):
        word = _mixed(word ^ part)
    hashes: Tensor = _mixed(_mixed(word ^ counter) ^ 0x9E3779B9)
    return hashes


def _mixed(word: Any) -> Any:
    word = (word ^ (word >> 16)) * 0x85EBCA6B & _WORD
    word = (word ^ (word >> 13)) * 0xC2B2AE35 & _WORD
    return word ^ (word >> 16)


@dataclass(frozen=True)
class Draws:
    """What was drawn for each image of a batch, each (B,)."""

    flip: Tensor  # bool
    angle: Tensor  # int64, index into the angles
    top: Tensor  # int64, 0 .. 2 * padding: where the crop begins in the padded image
    left: Tensor


class Augmentation:
    """The augmentation of one run, on one device."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.seed = config.seed
        self.flip = config.flip
        self.padding = config.crop_padding
        self.angles = _angles(config.rotation)
        self.affine = _fixed_point(self.angles).to(device) if config.rotation else None
        self.operations = torch.tensor([[_FLIP], [_ROTATE], [_CROP_Y], [_CROP_X]], device=device)
        axis = torch.arange(SIZE, dtype=torch.int32, device=device)
        self.y, self.x = axis.view(1, SIZE, 1), axis.view(1, 1, SIZE)

    def draws(self, epoch: int | Tensor, samples: Tensor) -> Draws:
        """The draws for `samples` (B,), which are indices into the training set."""
        flip, angle, top, left = hashed(self.seed, epoch, self.operations, samples)
        return Draws(
            flip=flip < round(self.flip * 2**32),
            angle=angle * ANGLES >> 32,
            top=top * (2 * self.padding + 1) >> 32,
            left=left * (2 * self.padding + 1) >> 32,
        )

    def sources(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Where each output pixel comes from: its index in the image, and whether it is outside.

        Both (B, 32, 32), the index int32; that of a pixel outside is any. Operations are undone
        from the last to the first.
        """
        y = _cropped(self.y + (draws.top - self.padding).to(torch.int32).view(-1, 1, 1))
        x = _cropped(self.x + (draws.left - self.padding).to(torch.int32).view(-1, 1, 1))
        if self.affine is not None:
            a, b, c, d, e, f = self.affine[draws.angle].T.reshape(6, -1, 1, 1)
            y, x = (d * x + f + e * y) >> 16, (a * x + c + b * y) >> 16
        outside = (y | x) >> _BITS != 0
        x = x ^ (draws.flip.to(torch.int32) * (SIZE - 1)).view(-1, 1, 1)  # 31 - x, in place of x
        return ((y << _BITS) + x) & (SIZE * SIZE - 1), outside


def _cropped(coordinate: Tensor) -> Tensor:
    """The coordinate (int32), but far away where it is in the padding.

    So far that no rotation brings it back into the image, whatever the other coordinate is.
    """
    return torch.where(coordinate >> _BITS != 0, _FAR, coordinate)


def _angles(degrees: float) -> list[float]:
    """ANGLES angles, the midpoints of equal parts of -degrees .. degrees."""
    return [degrees * ((2 * i + 1) / ANGLES - 1) for i in range(ANGLES)]


def _fixed_point(angles: list[float]) -> Tensor:
    """(ANGLES, 6) int32: the affine map from output to source in 16.16 fixed point.

    x_source = (a x + b y + c) >> 16 and y_source = (d x + e y + f) >> 16, computed and rounded
    as Pillow's Image.rotate and its nearest-neighbour transform do.
    """
    centre = SIZE / 2
    rows = []
    for degrees in angles:
        radians = -math.radians(degrees)
        cos, sin = round(math.cos(radians), 15), round(math.sin(radians), 15)
        shift_x = centre - cos * centre - sin * centre
        shift_y = centre + sin * centre - cos * centre
        row = (
            (cos, sin, shift_x + cos * 0.5 + sin * 0.5),
            (-sin, cos, shift_y - sin * 0.5 + cos * 0.5),
        )
        rows.append([math.floor(v * 65536 + 0.5) for part in row for v in part])
    return torch.tensor(rows, dtype=torch.int32)
