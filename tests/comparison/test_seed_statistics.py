"""Quantiles against scipy, comparisons with the best, pairing by seed, probabilities, power."""

import numpy as np
import pytest
from scipy import stats

from src.comparison.seed_statistics import (
    SeedResults,
    Spread,
    detectable_difference,
    dunnett,
    maximum_modulus,
    mean_interval,
    pooled_spread,
    power,
)

RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("freedom", [2, 5, 20, 200])
def test_one_comparison_gives_students_t(freedom: int) -> None:
    # with two degrees of freedom the tail of the scale is long: half a per cent
    close = pytest.approx(1, rel=0.005 if freedom == 2 else 5e-4)
    assert dunnett(1, freedom, 0.05) / stats.t.ppf(0.95, freedom) == close
    assert maximum_modulus(1, freedom, 0.05) / stats.t.ppf(0.975, freedom) == close


@pytest.mark.parametrize(("comparisons", "freedom"), [(2, 8), (4, 20), (9, 40)])
def test_dunnett_is_quantile_of_multivariate_t(comparisons: int, freedom: int) -> None:
    correlation = 0.5 * np.eye(comparisons) + 0.5
    joint = stats.multivariate_t(shape=correlation, df=freedom, seed=0)
    bound = dunnett(comparisons, freedom, 0.05)
    assert joint.cdf(np.full(comparisons, bound)) == pytest.approx(0.95, abs=5e-4)


def test_maximum_modulus_is_quantile_of_multivariate_t() -> None:
    joint = stats.multivariate_t(shape=np.eye(4), df=15, seed=0)
    bound = np.full(4, maximum_modulus(4, 15, 0.05))
    assert joint.cdf(bound, lower_limit=-bound) == pytest.approx(0.95, abs=5e-4)


def test_exclusion_agrees_with_dunnetts_test_of_scipy() -> None:
    decisions = set()
    for _ in range(40):
        samples = RANDOM.normal(RANDOM.normal(0, 1.2, 4)[:, None], 1.0, (4, 5))
        seen = SeedResults(samples.tolist())
        for index in range(4):
            others = [samples[other] for other in range(4) if other != index]
            test = stats.dunnett(*others, control=samples[index], alternative="greater")
            smallest = float(test.pvalue.min())
            if abs(smallest - 0.05) > 0.002:  # scipy's own integral is random
                assert seen.is_behind(index, seen.best) == (smallest < 0.05)
                decisions.add(smallest < 0.05)
    assert decisions == {True, False}


def test_pooled_spread_is_within_groups() -> None:
    spread = pooled_spread([[1.0, 3.0], [10.0, 14.0], [7.0]])
    assert spread
    assert spread.std == pytest.approx(5**0.5)  # (2 + 8) / 2
    assert spread.degrees_of_freedom == 2
    assert pooled_spread([[1.0], [2.0]]) is None


def test_unknown_spread_excludes_none_and_gives_no_interval() -> None:
    seen = SeedResults([[0.9], [0.1]])
    assert seen.spread is None
    assert seen.interval(0) is None
    assert seen.indistinguishable() == [0, 1]
    assert seen.probability_of_best() == [0.5, 0.5]
    assert mean_interval([0.9]) is None


def test_single_mean_has_students_interval() -> None:
    values = [0.81, 0.84, 0.80, 0.86]
    found = mean_interval(values)
    assert found
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert [found.low, found.high] == pytest.approx([low, high])


def test_seeds_are_paired_only_where_they_are_correlated() -> None:
    seed_effect = RANDOM.normal(0, 3.0, 6)
    own = RANDOM.normal(0, 0.2, (3, 6))
    correlated = (np.array([[0.0], [0.3], [0.6]]) + seed_effect + own).tolist()
    paired = SeedResults(correlated, same_seeds=True)
    assert paired.spread
    assert paired.spread.paired
    assert paired.spread.degrees_of_freedom == 10
    assert paired.spread.std < 0.4
    assert paired.is_behind(0, 2)
    unpaired = SeedResults(correlated).spread
    assert unpaired
    assert not unpaired.paired
    assert unpaired.std > 1.5
    independent = SeedResults(RANDOM.normal(0, 1, (3, 6)).tolist(), same_seeds=True)
    assert independent.spread
    assert not independent.spread.paired
    # the interval of one mean still holds for other seeds
    interval = paired.interval(0)
    assert interval
    assert interval.half_width > unpaired.std / 6**0.5


def test_probability_of_best_is_that_of_a_sure_case() -> None:
    seen = SeedResults([[0.90, 0.91, 0.89], [0.50, 0.51, 0.49], [0.50, 0.49, 0.51]])
    assert seen.probability_of_best() == pytest.approx([1, 0, 0], abs=0.01)
    assert SeedResults([[0.9, 0.8]]).probability_of_best() == [1.0]
    assert SeedResults([[0.5, 0.5], [0.5, 0.5], [0.4, 0.4]]).probability_of_best() == [0.5, 0.5, 0]


def test_equal_configurations_are_equally_likely_the_best() -> None:
    probabilities = SeedResults([[0.5, 0.6, 0.7]] * 4).probability_of_best()
    assert sum(probabilities) == pytest.approx(1)
    assert probabilities == pytest.approx([0.25] * 4, abs=0.05)


def test_power_is_the_share_of_leads_that_are_told() -> None:
    spread = Spread(0.5, 10)
    told = 0
    for _ in range(400):
        draws = RANDOM.normal(np.array([[1.0], [0.0], [-9.0]]), 0.5, (3, 5))
        seen = SeedResults(draws.tolist())
        told += seen.is_behind(1, 0)
    assert told / 400 == pytest.approx(power(1.0, spread, 5, 3), abs=0.06)
    lead = detectable_difference(spread, 5, 3)
    assert power(lead, spread, 5, 3) == pytest.approx(0.8, abs=1e-6)
    assert power(0.0, spread, 5, 2) == pytest.approx(0.05, abs=1e-3)


@pytest.mark.parametrize("values", [[], [[0.5], []]])
def test_configuration_without_results_is_refused(values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="needs a result"):
        SeedResults(values)
