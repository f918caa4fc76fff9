"""Statistics of configurations that were each trained with several seeds.

The model: a result of a configuration is its true mean plus the effect of a seed, normal with one
standard deviation for all configurations that are compared. Bounds are simultaneous over the
configurations, because the best of them is chosen by the same results.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

ALPHA = 0.05
"""Probability, at most, that the truly best configuration is excluded, or an interval is wrong."""
_PAIRING_EVIDENCE = 0.01  # p-value of the correlation between configurations that see equal seeds
_DRAWS = 2000
_QUADRATURE = 48  # nodes of each of the two integrals of a Dunnett probability


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a single seed, and how well it is known."""

    std: float
    degrees_of_freedom: int
    paired: bool = False
    """Whether the effect that a seed has on all configurations alike is taken out."""

    def standard_error(self, seeds: int) -> float:
        """Standard error of a mean over so many seeds."""
        return self.std / math.sqrt(seeds)


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def pooled_spread(groups: Sequence[Sequence[float] | Float64Array]) -> Spread | None:
    """The standard deviation within groups of results. None if no group has two of them."""
    arrays = [np.asarray(group, dtype=float) for group in groups if len(group)]
    freedom = sum(len(values) - 1 for values in arrays)
    if freedom == 0:
        return None
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in arrays)
    return Spread(math.sqrt(squares / freedom), freedom)


class SeedResults:
    """The results of several configurations, each with some seeds.

    values: for each configuration its results, in the order of the seeds. If `same_seeds`, the
    n-th result of every configuration was trained with the same seed.
    Raises ValueError if there is no configuration, or one has no result.
    """

    def __init__(self, values: Sequence[Sequence[float]], *, same_seeds: bool = False) -> None:
        self.values = [np.asarray(column, dtype=float) for column in values]
        if not self.values or any(len(column) == 0 for column in self.values):
            raise ValueError("every configuration needs a result")
        self.same_seeds = same_seeds

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of seeds of each configuration."""
        return tuple(len(column) for column in self.values)

    @cached_property
    def means(self) -> Float64Array:
        """Mean over the seeds of each configuration."""
        return np.array([column.mean() for column in self.values])

    @property
    def best(self) -> int:
        """The configuration with the highest mean; the first of several."""
        return int(self.means.argmax())

    @cached_property
    def spread(self) -> Spread | None:
        """The spread of seeds, pooled over the configurations. None if none has two seeds.

        If all configurations were trained with the same seeds and their results are
        significantly correlated, differences between them vary by what is left without the seeds'
        common effect: the residual of a two-way analysis of variance.
        """
        return self._paired_spread() or pooled_spread(self.values)

    def _paired_spread(self) -> Spread | None:
        """The spread without the seeds' common effect, where that is clearly smaller."""
        configurations, seeds = len(self.values), len(self.values[0])
        if not self.same_seeds or configurations < 2 or len(set(self.counts)) > 1 or seeds < 3:
            return None
        from scipy import stats

        common = np.mean([column - column.mean() for column in self.values], axis=0)
        of_seeds = configurations * float((common**2).sum())
        freedom = (configurations - 1) * (seeds - 1)
        squares = sum(float(((column - column.mean()) ** 2).sum()) for column in self.values)
        residual = max(0.0, squares - of_seeds) / freedom
        if residual == 0:
            return None
        ratio = of_seeds / (seeds - 1) / residual
        if stats.f.sf(ratio, seeds - 1, freedom) > _PAIRING_EVIDENCE:
            return None
        return Spread(math.sqrt(residual), freedom, paired=True)

    def interval(self, index: int, alpha: float = ALPHA) -> Interval | None:
        """The interval of a configuration's true mean, simultaneous over all configurations.

        It holds for the best one too, although the results have chosen it: the studentised maximum
        modulus. Returns None if the spread is unknown.
        """
        spread = pooled_spread(self.values)  # one mean varies with the seeds' common effect too
        if spread is None:
            return None
        critical = maximum_modulus(len(self.values), spread.degrees_of_freedom, alpha)
        return _interval(self.means[index], critical * spread.standard_error(self.counts[index]))

    def indistinguishable(self, alpha: float = ALPHA) -> list[int]:
        """The configurations that may be the best: the truly best is one with probability 0.95.

        Multiple comparisons with the best (Hsu 1984): a configuration is excluded if the one with
        the highest mean is ahead of it by more than Dunnett's one-sided bound for all others.
        Without a spread none is excluded.
        """
        everyone = range(len(self.values))
        return [i for i in everyone if not self.is_behind(i, self.best, alpha)]

    def is_behind(self, index: int, leader: int, alpha: float = ALPHA) -> bool:
        """Whether a configuration is significantly behind the leader."""
        return self.lead(leader, index) > self._bound(leader, index, alpha)

    def lead(self, first: int, second: int) -> float:
        """How far the mean of one configuration is above that of another."""
        return float(self.means[first] - self.means[second])

    def upper_lead(self, first: int, second: int, alpha: float = ALPHA) -> float:
        """Upper bound of how far one configuration is truly above another."""
        return self.lead(first, second) + self._bound(first, second, alpha)

    def _bound(self, first: int, second: int, alpha: float) -> float:
        """The lead that two equal configurations rarely show, corrected for all comparisons."""
        if self.spread is None:
            return math.inf
        comparisons = max(1, len(self.values) - 1)
        critical = dunnett(comparisons, self.spread.degrees_of_freedom, alpha)
        counts = self.counts[first], self.counts[second]
        return critical * self.spread.std * math.sqrt(1 / counts[0] + 1 / counts[1])

    def probability_of_best(self) -> list[float]:
        """The probability of each configuration to be the truly best.

        By a hierarchical model: true means are normal around a common mean. Their spread has a
        half-Cauchy prior with the scale of a seed's standard deviation (Gelman 2006); the
        posterior is drawn with fixed random numbers. Equal probabilities if the spread is unknown.
        """
        count = len(self.values)
        if count == 1 or self.spread is None or self.spread.std == 0:
            return _without_spread(self.means) if self.spread else [1 / count] * count
        return _posterior_of_best(self.means, np.array(self.counts), self.spread)


def _without_spread(means: Float64Array) -> list[float]:
    best = means == means.max()
    return [float(share) for share in best / best.sum()]


def _interval(mean: float, reach: float) -> Interval:
    return Interval(float(mean), float(mean - reach), float(mean + reach))


def mean_interval(
    values: Sequence[float], spread: Spread | None = None, alpha: float = ALPHA
) -> Interval | None:
    """The interval of a mean by Student's t. spread: pooled over more than these values.

    Returns None if there is one value and no spread.
    """
    if spread is None:
        spread = pooled_spread([values])
    if spread is None:
        return None
    critical = t_critical(spread.degrees_of_freedom, alpha)
    return _interval(float(np.mean(values)), critical * spread.standard_error(len(values)))


def t_critical(degrees_of_freedom: int, alpha: float) -> float:
    """Two-sided critical value of Student's t."""
    from scipy import stats

    return float(stats.t.ppf(1 - alpha / 2, degrees_of_freedom))


@lru_cache(maxsize=1024)
def maximum_modulus(count: int, degrees_of_freedom: int, alpha: float) -> float:
    """Quantile of the largest |t| of `count` independent means with one estimate of the spread.

    Stoline and Ury (1979). One mean gives Student's t.
    """
    from scipy import optimize, stats

    scales, weights = _scale_quadrature(degrees_of_freedom)

    def excess(bound: float) -> float:
        inside = (2 * stats.norm.cdf(bound * scales) - 1) ** count
        return float(1 - inside @ weights) - alpha

    return float(optimize.brentq(excess, 0.0, 1e4))


@lru_cache(maxsize=1024)
def dunnett(comparisons: int, degrees_of_freedom: int, alpha: float) -> float:
    """One-sided critical value for `comparisons` configurations against one (Dunnett 1955).

    All have as many seeds, so that differences are correlated by one half; with fewer seeds of
    some the value is conservative by little. One comparison gives Student's t.
    """
    from scipy import optimize, stats

    scales, weights = _scale_quadrature(degrees_of_freedom)
    nodes, of_nodes = np.polynomial.hermite_e.hermegauss(_QUADRATURE)
    of_nodes = of_nodes / of_nodes.sum()

    def excess(bound: float) -> float:
        below = stats.norm.cdf(nodes[:, None] + math.sqrt(2) * bound * scales) ** comparisons
        return float(1 - of_nodes @ below @ weights) - alpha

    return float(optimize.brentq(excess, 0.0, 1e4))


@lru_cache(maxsize=256)
def _scale_quadrature(degrees_of_freedom: int) -> tuple[Float64Array, Float64Array]:
    """Values and weights of s / sigma, whose square is chi-square over its degrees of freedom."""
    from scipy import stats

    nodes, weights = np.polynomial.legendre.leggauss(_QUADRATURE)
    shares = (nodes + 1) / 2
    values = np.sqrt(stats.chi2.ppf(shares, degrees_of_freedom) / degrees_of_freedom)
    return values, weights / 2


def _posterior_of_best(
    means: Float64Array, counts: npt.NDArray[np.int64], spread: Spread
) -> list[float]:
    """The share of posterior draws in which each configuration has the highest true mean."""
    random = np.random.default_rng(0)
    freedom = spread.degrees_of_freedom
    deviations = spread.std * np.sqrt(freedom / random.chisquare(freedom, _DRAWS))
    errors = deviations[:, None] / np.sqrt(counts)  # (draws, configurations)
    scales = deviations[:, None] * np.tan(np.pi / 2 * (np.arange(32) + 0.5) / 32)
    between = _draw_between(means, errors, scales, random)
    precision = 1 / (errors**2 + between[:, None] ** 2)
    centre = (precision * means).sum(1) / precision.sum(1)
    centre = centre + random.standard_normal(_DRAWS) / np.sqrt(precision.sum(1))
    shrink = between[:, None] ** 2 / (between[:, None] ** 2 + errors**2)
    true = centre[:, None] + shrink * (means - centre[:, None])
    true = true + np.sqrt(shrink) * errors * random.standard_normal(errors.shape)
    shares = np.bincount(true.argmax(1), minlength=len(means)) / _DRAWS
    return [float(share) for share in shares]


def _draw_between(
    means: Float64Array, errors: Float64Array, scales: Float64Array, random: np.random.Generator
) -> Float64Array:
    """(draws,): the spread of true means, drawn from its posterior on a grid of `scales`.

    The grid has equal prior probability at each of its points. The common mean is integrated out.
    """
    variance = errors[:, None, :] ** 2 + scales[:, :, None] ** 2  # (draws, grid, configurations)
    weight = 1 / variance
    total = weight.sum(-1)
    centre = (weight * means).sum(-1) / total
    squares = (weight * (means - centre[..., None]) ** 2).sum(-1)
    log_likelihood = -0.5 * (np.log(variance).sum(-1) + np.log(total) + squares)
    likelihood = np.exp(log_likelihood - log_likelihood.max(1, keepdims=True))
    cumulative = likelihood.cumsum(1) / likelihood.sum(1, keepdims=True)
    index = (cumulative < random.random((len(errors), 1))).sum(1)
    return scales[np.arange(len(errors)), np.minimum(index, scales.shape[1] - 1)]


def power(lead: float, spread: Spread, seeds: int, count: int, alpha: float = ALPHA) -> float:
    """Probability of detecting a true lead with this many seeds of each of `count` configurations.

    By the noncentral t distribution, at Dunnett's bound for all comparisons.
    """
    from scipy import stats

    freedom = count * (seeds - 1)
    critical = dunnett(count - 1, freedom, alpha)
    if spread.std == 0:
        return float(lead > 0)
    effect = lead / (spread.std * math.sqrt(2 / seeds))
    return float(stats.nct.sf(critical, freedom, effect))


def detectable_difference(
    spread: Spread,
    seeds: int,
    count: int,
    *,
    probability: float = 0.8,
    alpha: float = ALPHA,
) -> float:
    """The true lead that is detected with a probability, which `power` gives."""
    from scipy import optimize

    if spread.std == 0:
        return 0.0
    unit = Spread(1.0, spread.degrees_of_freedom)

    def missing(lead: float) -> float:
        return power(lead, unit, seeds, count, alpha) - probability

    return spread.std * float(optimize.brentq(missing, 0.0, 1e3))
