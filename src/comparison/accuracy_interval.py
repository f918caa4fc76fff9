"""The interval of an accuracy over seeds and test images, both taken as samples."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from src.comparison.seed_statistics import (
    ALPHA,
    Interval,
    Spread,
    pooled_spread,
    t_critical,
)


def images_standard_error(correct: npt.NDArray[np.bool_]) -> float:
    """Standard error of a mean accuracy that is due to the choice of the test images.

    correct: (seeds, images), whether each run was right. The variance component of the images in a
    crossed two-way random-effects analysis of variance, over their number (Searle et al. 1992).
    With one seed: that of a binomial share.
    """
    seeds, images = correct.shape
    if seeds < 2 or images < 2:
        return binomial_standard_error(float(correct.mean()), images)
    values = correct.astype(np.float64)
    of_image, of_seed, mean = values.mean(0), values.mean(1), values.mean()
    mean_square = seeds * float(((of_image - mean) ** 2).sum()) / (images - 1)
    rest = values - of_image[None, :] - of_seed[:, None] + mean
    residual = float((rest**2).sum()) / ((seeds - 1) * (images - 1))
    return math.sqrt(max(0.0, mean_square - residual) / (seeds * images))


def binomial_standard_error(accuracy: float, images: int) -> float:
    """The same if it is not known which images were right: an upper bound."""
    return math.sqrt(max(0.0, accuracy * (1 - accuracy)) / images)


def seeds_interval(accuracies: Sequence[float], images: int) -> Interval | None:
    """The interval of a configuration's mean accuracy, from its own seeds alone.

    images: number of test images; it is not known which were right. Returns None for one seed.
    """
    spread = pooled_spread([accuracies])
    if spread is None:
        return None
    error = binomial_standard_error(sum(accuracies) / len(accuracies), images)
    critical = t_critical(spread.degrees_of_freedom, ALPHA)
    return accuracy_interval(accuracies, spread, error, critical)


def accuracy_interval(
    accuracies: Sequence[float], spread: Spread | None, error_of_images: float, critical: float
) -> Interval | None:
    """The interval of a mean accuracy for other seeds and other images.

    critical: of the seeds' standard error, such as a quantile of Student's t; that of the images is
    normal. The two errors are independent: their reaches add as squares (Howe 1974). Returns None
    if the spread of seeds is unknown.
    """
    from scipy import stats

    if spread is None:
        return None
    mean = sum(accuracies) / len(accuracies)
    of_images = float(stats.norm.ppf(1 - ALPHA / 2)) * error_of_images
    reach = math.hypot(critical * spread.standard_error(len(accuracies)), of_images)
    return Interval(mean, max(0.0, mean - reach), min(1.0, mean + reach))
