"""Colour jitter of a batch: torchvision's ColorJitter with draws of its own for each image."""

from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from src.config import RunConfig

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
_ORDERS = tuple(permutations(range(4)))
_LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, with torchvision's digits


@dataclass(frozen=True)
class JitterDraws:
    """What was drawn for each image of a batch."""

    order: Tensor  # (B, 4) int64: a permutation of brightness, contrast, saturation, hue
    amounts: Tensor  # (B, 4) float32: the factors of the first three, and the turn of the hue


class Jitter:
    """The colour jitter of a run, on one device."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        spreads = (config.brightness, config.contrast, config.saturation)
        low = [*(max(0.0, 1 - spread) for spread in spreads), -config.hue]
        high = [*(1 + spread for spread in spreads), config.hue]
        self.blends, self.turns = any(spreads), config.hue > 0
        self.low = torch.tensor(low, dtype=torch.float64, device=device)
        self.span = torch.tensor(high, dtype=torch.float64, device=device) - self.low
        self.orders = torch.tensor(_ORDERS, device=device)
        self.everywhere = device.type == "cuda"  # to select images would wait for their number

    def draws(self, words: Tensor) -> JitterDraws:
        """From five uniform 32-bit numbers for each image, (5, B) int64."""
        order, *amounts = words
        shares = torch.stack(amounts, dim=1) / 2**32
        return JitterDraws(
            self.orders[order * len(_ORDERS) >> 32], (self.low + self.span * shares).float()
        )

    def __call__(self, images: Tensor, draws: JitterDraws) -> Tensor:
        """Images (B, 3, P) of P pixels in 0..1, each operation in the order drawn for its image."""
        for operation in draws.order.T:
            if self.blends:
                images = _blend(images, operation, draws.amounts)
            if self.turns:
                shift = _shift_hue_of_all if self.everywhere else _shift_hue_of_due
                images = shift(images, operation == _HUE, draws.amounts[:, _HUE])
        return images


def _blend(images: Tensor, operation: Tensor, amounts: Tensor) -> Tensor:
    """Blend each image with black (brightness), its mean grey (contrast) or its grey pixels
    (saturation); images whose operation is hue stay as they are.
    """
    red, green, blue = images.unbind(1)
    grey = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue  # (B, P)
    factor = amounts.gather(1, operation.view(-1, 1))
    factor = factor.masked_fill(operation.view(-1, 1) == _HUE, 1).view(-1, 1, 1)
    other = grey.mul((operation == _SATURATION).view(-1, 1))
    other += grey.mean(1, keepdim=True) * (operation == _CONTRAST).view(-1, 1)
    return (images * factor).add_((1 - factor) * other.unsqueeze(1)).clamp_(0, 1)


def _shift_hue_of_all(images: Tensor, due: Tensor, turn: Tensor) -> Tensor:
    """Shift the hue of all images, and keep the result for those that are `due` (B,)."""
    return torch.where(due.view(-1, 1, 1), turned(images, turn), images)


def _shift_hue_of_due(images: Tensor, due: Tensor, turn: Tensor) -> Tensor:
    """Shift the hue of the images that are `due` (B,), in place."""
    at = due.nonzero().view(-1)
    return images.index_copy_(0, at, turned(images[at], turn[at]))


def turned(images: Tensor, turn: Tensor) -> Tensor:
    """Images (B, 3, P) in 0..1 with their hues turned by `turn` (B,), in full circles.

    By way of HSV, whose value and chroma stay:
    https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
    """
    red, green, blue = images.unbind(1)
    value, chroma = images.amax(1), images.amax(1) - images.amin(1)
    divisor = chroma.masked_fill(chroma == 0, 1)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sixths += turn.view(-1, 1) * 6
    out = torch.empty_like(images)
    for channel, offset in enumerate((5, 3, 1)):
        place = (sixths + offset).remainder_(6)
        share = torch.minimum(place, 4 - place).clamp_(0, 1)
        torch.sub(value, share.mul_(chroma), out=out[:, channel])
    return out
