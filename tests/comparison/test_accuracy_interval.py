"""Intervals over seeds and test images hold in a simulation where both are drawn anew."""

import numpy as np
import pytest

from src.comparison.accuracy_interval import (
    accuracy_interval,
    binomial_standard_error,
    images_standard_error,
)
from src.comparison.seed_statistics import pooled_spread, t_critical


def draw(random: np.random.Generator, seeds: int, images: int) -> np.ndarray:
    """Return which images each seed's run is right on: images and seeds differ in difficulty."""
    difficulty, skill = random.normal(1.2, 1.0, images), random.normal(0, 0.05, (seeds, 1))
    return random.random((seeds, images)) < 1 / (1 + np.exp(-(difficulty + skill)))


def test_interval_covers_the_accuracy_of_other_seeds_and_images() -> None:
    random = np.random.default_rng(4)
    truth = float(np.mean([draw(random, 50, 2000).mean() for _ in range(60)]))
    covered = seeds_alone = 0
    for _ in range(300):
        correct = draw(random, 20, 400)
        accuracies = correct.mean(1).tolist()
        spread = pooled_spread([accuracies])
        for error in (images_standard_error(correct), 0.0):
            interval = accuracy_interval(accuracies, spread, error, t_critical(19, 0.05))
            assert interval
            inside = interval.low <= truth <= interval.high
            covered += inside and error > 0
            seeds_alone += inside and error == 0
    assert covered >= 0.94 * 300
    assert seeds_alone < 0.8 * 300  # the images' share of the error is needed


def test_standard_error_of_one_seed_is_binomial() -> None:
    correct = np.array([[True] * 80 + [False] * 20])
    assert images_standard_error(correct) == pytest.approx((0.8 * 0.2 / 100) ** 0.5)
    assert images_standard_error(correct) == binomial_standard_error(0.8, 100)


def test_equal_runs_vary_with_the_images_alone() -> None:
    one = np.random.default_rng(1).random(300) < 0.7
    error = images_standard_error(np.stack([one] * 4))
    assert error == pytest.approx(binomial_standard_error(float(one.mean()), 299))


def test_interval_is_within_zero_and_one() -> None:
    interval = accuracy_interval([0.999, 0.998], pooled_spread([[0.999, 0.99]]), 0.01, 12.7)
    assert interval
    assert 0 <= interval.low < interval.high == 1.0
    assert accuracy_interval([0.9], None, 0.01, 0.0) is None
