"""Confidence intervals compared with formulas, published examples and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from src.common.result_values import TEST_ACCURACY
from src.report import text_summary
from src.report.charts import (
    top_k,
)
from src.report.statistics import (
    AccuracyEstimate,
    is_within_noise,
    newcombe_interval,
    paired_difference,
    stands_apart,
    wilson_interval,
)
from tests.report.synthetic_sweep import table_of_grid


def test_wilson_interval_matches_formula() -> None:
    low, high = wilson_interval(0.8697)
    p, n, z = 0.8697, 10_000, 1.959964
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert wilson_interval(1.0, 10)[1] == 1
    assert wilson_interval(0.5, 100)[1] - wilson_interval(0.5, 100)[0] > 0.18


@pytest.mark.parametrize("images", [1, 37, 300, 10_000])
def test_wilson_interval_of_counts_matches_closed_form(images: int) -> None:
    z2 = stats.norm.ppf(0.975) ** 2 / images
    for correct in {0, 1, images // 3, images - 1, images}:
        share = correct / images
        middle = (share + z2 / 2) / (1 + z2)
        half = np.sqrt(share * (1 - share) * z2 + z2 * z2 / 4) / (1 + z2)
        expected = (middle - half if correct else 0, middle + half if correct < images else 1)
        assert wilson_interval(share, images) == pytest.approx(expected, abs=1e-12)


def test_newcombe_interval_matches_published_example() -> None:
    def estimate(accuracy: float, images: int = 10_000) -> AccuracyEstimate:
        low, high = wilson_interval(accuracy, images)
        return AccuracyEstimate(accuracy=accuracy, low=low, high=high)

    low, high = newcombe_interval(estimate(56 / 70, 70), estimate(48 / 80, 80))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-4), "Newcombe 1998, example (a)"
    assert is_within_noise(estimate(0.86), estimate(0.855))
    assert not is_within_noise(estimate(0.86), estimate(0.84))
    assert is_within_noise(estimate(0.86, 200), estimate(0.84, 200))


def test_paired_difference_matches_scipy_and_summary_text() -> None:
    noise = iter(np.random.default_rng(0).normal(0, 0.01, 12))
    runs = table_of_grid(lambda rate, schedule, augmented: 0.5 + 0.05 * augmented + next(noise))
    # aliases of the same training must not count
    aliases = runs.assign(alias_of="another", **{TEST_ACCURACY: 0.0})
    runs = pd.concat([runs.assign(alias_of=None), aliases], ignore_index=True)
    difference = paired_difference(runs, "cnn", TEST_ACCURACY, "augmentation")
    first = runs[runs["alias_of"].isna()]
    with_it, without = (
        first[first["augmentation"] == on][TEST_ACCURACY].to_numpy() for on in (True, False)
    )
    expected = stats.ttest_rel(with_it, without)
    assert difference
    assert (difference.pairs, difference.higher) == (6, int((with_it > without).sum()))
    assert difference.mean == pytest.approx((with_it - without).mean())
    assert (difference.low, difference.high) == pytest.approx(expected.confidence_interval(0.95))
    text = "\n".join(text_summary.sentences(runs, top_k.top_k(runs, "cnn", 3, "best_val_accuracy")))
    assert f"Augmentation changed the test accuracy by {100 * difference.mean:+.2f} points" in text


def test_runs_with_rare_values_of_two_settings_stand_apart() -> None:
    grid = table_of_grid(lambda rate, schedule, augmented: 0.5).assign(num_epochs=20, batch_size=64)
    assert not stands_apart(grid).any()
    longer = grid.head(1).assign(num_epochs=100)
    recipe = longer.assign(batch_size=8)
    other_seed = grid.head(1).assign(seed=7, gamma=0.5, num_epochs=100)
    table = pd.concat([grid.assign(seed=0), longer, other_seed], ignore_index=True)
    assert not stands_apart(table).any(), "one more value of one setting extends the grid"
    table = pd.concat([grid, recipe], ignore_index=True)
    assert stands_apart(table).tolist() == [False] * len(grid) + [True]
    small = pd.concat([grid.head(6), recipe], ignore_index=True)
    assert not stands_apart(small).any(), "one of seven runs is not rare"
    of_another = recipe.assign(Modelname="vit")
    assert not stands_apart(pd.concat([grid, of_another], ignore_index=True)).any()
