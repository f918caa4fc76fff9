"""Which images a gallery shows, and what stands above each."""

from dataclasses import dataclass

import numpy as np

from src.data.dataset import CLASSES, ImageArray
from src.report.predictions import Integers, Predictions


@dataclass(frozen=True)
class Tile:
    """An image (32, 32, 3) uint8, its class, the predicted one and how sure the model was."""

    image: ImageArray
    true: str
    predicted: str
    confidence: float
    """Probability of the prediction, 0 to 1."""

    @property
    def right(self) -> bool:
        """Whether the prediction is the class."""
        return self.true == self.predicted

    @property
    def title(self) -> str:
        """Classes in words, and a mark that needs no colour."""
        mark = "\N{CHECK MARK}" if self.right else "\N{BALLOT X}"
        return f"{mark} true: {self.true} / predicted: {self.predicted}"


def tiles(found: Predictions, images: ImageArray, places: Integers) -> list[Tile]:
    """The images (N, 32, 32, 3) at `places`, in that order."""
    return [
        Tile(
            images[place],
            CLASSES[found.labels[place]],
            CLASSES[found.predictions[place]],
            float(found.confidence[place]),
        )
        for place in places
    ]


def at_random(count: int, total: int, seed: int) -> Integers:
    """`count` places of `total`, or all where there are fewer: the same for the same seed."""
    places = np.random.default_rng(seed).permutation(total)[:count]
    return places.astype(np.int64)


def most_confident_mistakes(found: Predictions, count: int) -> Integers:
    """Places of the `count` wrong predictions of highest probability, the most confident first."""
    wrong = np.flatnonzero(~found.right)
    return wrong[np.argsort(-found.confidence[wrong], kind="stable")][:count]
