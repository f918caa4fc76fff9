"""Stated error rates hold over thousands of simulated sweeps with known truth."""

from statistics import fmean

import numpy as np
import pytest

from benchmarks.selection import GAPS, SEEDS, SWEEPS, K, simulate
from src.comparison.seed_statistics import SeedResults


@pytest.mark.parametrize("gap", GAPS)
def test_error_rates_hold(gap: int) -> None:
    tally = simulate(gap)
    assert tally.covered >= 0.94 * SWEEPS
    assert tally.covered_by_final >= 0.94 * SWEEPS
    assert tally.best_in_set >= 0.94 * SWEEPS
    assert tally.best_in_race >= 0.94 * SWEEPS
    assert tally.covered_in_race >= 0.94 * SWEEPS
    # simultaneous bounds are wider than those of one mean, but not without limit
    assert fmean(tally.widths) < 1.15 * fmean(tally.final_widths)
    assert tally.saved >= 0
    if gap >= 3:
        assert tally.far >= 4 * SWEEPS - 100
        assert tally.far_excluded >= 0.9 * tally.far
        assert tally.saved >= 0.25


def test_stated_probabilities_come_true() -> None:
    """True means vary normally, by 0.3, 1 or 3 standard deviations of a seed."""
    random = np.random.default_rng(9)
    stated, came_true = [], []
    for number in range(600):
        true = (0.3, 1.0, 3.0)[number % 3] * random.standard_normal(K)
        results = true[:, None] + random.standard_normal((K, SEEDS))
        stated += SeedResults(results.tolist()).probability_of_best()
        came_true += (np.arange(K) == true.argmax()).tolist()
    probabilities, is_best = np.array(stated), np.array(came_true)
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.01)):
        among = (probabilities >= low) & (probabilities < high)
        share, error = is_best[among].mean(), 0.5 / among.sum() ** 0.5
        assert probabilities[among].mean() == pytest.approx(share, abs=max(0.03, 2.5 * error))
