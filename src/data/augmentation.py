"""Augmentation as a pure function: draws from a counter, and one gather for all of them.

A draw depends on (seed, epoch, sample, operation) alone, so it is the same on every device and
for every batch size, slot and restart. The gather composes what torchvision's
RandomHorizontalFlip, RandomVerticalFlip, RandomRotation (nearest neighbour, zero fill) and
RandomCrop (zero padding) do one after the other to a PIL image. Colours are jittered after it, and
cutout (DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552) blanks a square of the
normalised image.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.config import RunConfig
from src.data.color_jitter import Jitter, JitterDraws

_FAR = 4096  # pixels: outside of every image, however it is rotated
ANGLES = 4096  # equally spaced: for +-15 degrees one step moves a corner by 1/350 pixel

# operations, in the draws' key
_FLIP, _ROTATE, _CROP_Y, _CROP_X, SHUFFLE, _VERTICAL, _CUT_Y, _CUT_X = range(8)
_JITTER = range(8, 13)  # order, brightness, contrast, saturation, hue
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
    vertical: Tensor | None = None  # bool; None where no image is ever flipped so
    cut: tuple[Tensor, Tensor] | None = None  # int64: top and left of the square
    jitter: JitterDraws | None = None


class Augmentation:
    """The augmentation of one run, on one device."""

    def __init__(self, config: RunConfig, device: torch.device, size: int = 32) -> None:
        """size: side of the images in pixels, a power of two."""
        self.size, self.bits = size, size.bit_length() - 1
        self.seed = config.seed
        self.flip = config.flip
        self.padding = config.crop_padding
        self.angles = _angles(config.rotation)
        self.affine = _fixed_point(self.angles, size).to(device) if config.rotation else None
        self.vertical, self.cutout = config.vertical_flip, config.cutout
        colours = (config.brightness, config.contrast, config.saturation, config.hue)
        self.jitter = Jitter(config, device) if any(colours) else None
        used = [_FLIP, _ROTATE, _CROP_Y, _CROP_X]
        used += [_VERTICAL] * bool(self.vertical) + [_CUT_Y, _CUT_X] * bool(self.cutout)
        used += _JITTER if self.jitter else ()
        self.rows = {operation: row for row, operation in enumerate(used)}
        self.operations = torch.tensor(used, device=device).view(-1, 1)
        axis = torch.arange(size, dtype=torch.int32, device=device)
        self.y, self.x = axis.view(1, size, 1), axis.view(1, 1, size)

    def draws(self, epoch: int | Tensor, indices: Tensor) -> Draws:
        """The draws for images of the training set: `indices` (B,)."""
        words = hashed(self.seed, epoch, self.operations, indices)

        def below(count: int, operation: int) -> Tensor:
            """A uniform whole number in 0 .. count - 1."""
            return words[self.rows[operation]] * count >> 32

        span, room = 2 * self.padding + 1, self.size - self.cutout + 1
        return Draws(
            flip=words[self.rows[_FLIP]] < round(self.flip * 2**32),
            angle=below(ANGLES, _ROTATE),
            top=below(span, _CROP_Y),
            left=below(span, _CROP_X),
            vertical=words[self.rows[_VERTICAL]] < round(self.vertical * 2**32)
            if self.vertical
            else None,
            cut=(below(room, _CUT_Y), below(room, _CUT_X)) if self.cutout else None,
            jitter=self.jitter.draws(words[-len(_JITTER) :]) if self.jitter else None,
        )

    def sources(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Where each output pixel comes from: its index in the image, and whether it is outside.

        Both (B, S, S), the index int32; it is undefined for a pixel outside. Operations are
        undone from the last to the first.
        """
        size, bits = self.size, self.bits
        y = self._cropped(self.y + (draws.top - self.padding).to(torch.int32).view(-1, 1, 1))
        x = self._cropped(self.x + (draws.left - self.padding).to(torch.int32).view(-1, 1, 1))
        if self.affine is not None:
            a, b, c, d, e, f = self.affine[draws.angle].T.reshape(6, -1, 1, 1)
            y, x = (d * x + f + e * y) >> 16, (a * x + c + b * y) >> 16
        outside = (y | x) >> bits != 0
        x = x ^ (draws.flip.to(torch.int32) * (size - 1)).view(-1, 1, 1)  # size - 1 - x for x
        if draws.vertical is not None:
            y = y ^ (draws.vertical.to(torch.int32) * (size - 1)).view(-1, 1, 1)
        return ((y << bits) + x) & (size * size - 1), outside

    def blanked(self, images: Tensor, draws: Draws) -> Tensor:
        """Normalised images (B, C, S, S) with the squares that were drawn at 0, in place."""
        if draws.cut is None:
            return images
        top, left = (edge.view(-1, 1, 1, 1) for edge in draws.cut)
        y, x = self.y.unsqueeze(0) - top, self.x.unsqueeze(0) - left
        inside = (y >= 0) & (y < self.cutout) & (x >= 0) & (x < self.cutout)
        return images.masked_fill_(inside, 0)

    def _cropped(self, coordinate: Tensor) -> Tensor:
        """The coordinate (int32), but far away where it is in the padding.

        So far that no rotation brings it back into the image, whatever the other coordinate is.
        """
        return torch.where(coordinate >> self.bits != 0, _FAR, coordinate)


def _angles(degrees: float) -> list[float]:
    """ANGLES angles, the midpoints of equal parts of -degrees .. degrees."""
    return [degrees * ((2 * i + 1) / ANGLES - 1) for i in range(ANGLES)]


def _fixed_point(angles: list[float], size: int) -> Tensor:
    """(ANGLES, 6) int32: the affine map from output to source in 16.16 fixed point.

    x_source = (a x + b y + c) >> 16 and y_source = (d x + e y + f) >> 16, computed and rounded
    as Pillow's Image.rotate and its nearest-neighbour transform do.
    """
    centre = size / 2
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
