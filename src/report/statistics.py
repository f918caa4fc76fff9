"""Confidence intervals of accuracies and of differences between runs; runs to compare."""

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.config import RunConfig
from src.report.settings import SETTING_FIELDS, Setting, settings_of, varied_factors
from src.report.table import MODEL, TEST_IMAGES, drop_aliases, is_pruned

Booleans = npt.NDArray[np.bool_]

_SIGNIFICANCE = 0.05
_MIN_PAIRS = 2  # one pair does not show how much pairs vary
MIN_RUNS = 4
"""Of an architecture. With fewer, the mean over the runs with one value is that of a single run."""
_FIELDS = RunConfig.__dataclass_fields__
_RARE = 10
"""A value is rare if another one of its setting has as many times its runs."""


@dataclass(frozen=True, kw_only=True)
class AccuracyEstimate:
    """A test accuracy with its 95 % Wilson interval, as shares from 0 to 1."""

    accuracy: float
    low: float
    high: float
    is_right: Booleans | None = field(default=None, compare=False, repr=False)
    """(images,): on which test images the run was right. None: not known, or of several runs."""


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference between runs that differ in one hyperparameter and in nothing else."""

    pairs: int
    higher: int
    """Pairs in which the second level has the higher value."""
    mean: float
    low: float
    high: float
    """95 % interval of the mean, by Student's t over the pairs."""


def wilson_interval(accuracy: float, images: int = TEST_IMAGES) -> tuple[float, float]:
    """95 % score interval of an accuracy that was measured on `images` images (Wilson 1927)."""
    return _wilson_interval(round(accuracy * images), images)


@lru_cache(maxsize=2**14)  # half a millisecond each, and runs of a sweep often share a count
def _wilson_interval(correct: int, images: int) -> tuple[float, float]:
    from scipy.stats import binomtest  # half a second to import

    interval = binomtest(correct, images).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def newcombe_interval(better: AccuracyEstimate, other: AccuracyEstimate) -> tuple[float, float]:
    """95 % interval of the difference of two accuracies, from their Wilson intervals.

    Newcombe's method 10 (1998), for independent samples. Of two runs that saw the same images it
    is conservative. Variation between seeds is included as far as it is in the given intervals.
    """
    difference = better.accuracy - other.accuracy
    down = math.hypot(better.accuracy - better.low, other.high - other.accuracy)
    up = math.hypot(better.high - better.accuracy, other.accuracy - other.low)
    return difference - down, difference + up


def mcnemar_p_value(first: Booleans, second: Booleans) -> float:
    """Probability of as different a number of right images, if both runs are equally accurate.

    McNemar's exact test, over the images on which one of the two runs was right and not the other.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def is_within_noise(first: AccuracyEstimate, second: AccuracyEstimate) -> bool:
    """Whether two accuracies may be equal, at 5 %.

    McNemar's test where it is known which images each of two runs was right on; else whether
    Newcombe's interval of the difference includes zero.
    """
    right, other = first.is_right, second.is_right
    if right is not None and other is not None and right.shape == other.shape:
        return mcnemar_p_value(right, other) >= _SIGNIFICANCE
    low, high = newcombe_interval(first, second)
    return low <= 0 <= high


def stands_apart(table: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a run is outside its architecture's sweep: it has rare values of several settings.

    An example is a recipe that was trained into the runs folder of a grid: main effects would
    compare this single run with a whole sweep. Seeds do not count, nor do settings such as gamma
    that have an effect only with some values of others.
    """
    rare = pd.Series(0, table.index)
    for _, rows in table.groupby(MODEL):
        for setting in filter(_is_independent, varied_factors(rows, SETTING_FIELDS)):
            codes = pd.Series(setting.codes(rows), rows.index)
            counts = codes.map(codes.value_counts())
            rare[rows.index] += counts * _RARE <= counts.max()
    return rare > 1


def is_in_sweep(table: pd.DataFrame) -> "pd.Series[bool]":
    """Whether main effects include a run: it is not outside the sweep, which has enough runs."""
    sizes = table.groupby(MODEL)[MODEL].transform("size")
    return ~stands_apart(table) & (sizes >= MIN_RUNS)


def _is_independent(setting: Setting) -> bool:
    field_of_config = _FIELDS.get(setting.name)
    depends = field_of_config is not None and field_of_config.metadata["matters_if"]
    return setting.name != "seed" and not depends


def comparable_runs(table: pd.DataFrame, model: str, column: str) -> pd.DataFrame:
    """Rows of an architecture that were trained to their end and have a value in the column.

    Cells that share a training count one by one, so that a full grid stays balanced.
    """
    return table[(table[MODEL] == model) & ~is_pruned(table)].dropna(subset=[column])


def paired_difference(
    table: pd.DataFrame, model: str, column: str, name: str
) -> PairedDifference | None:
    """Second minus first level of a two-level setting, over runs that are equal in all others.

    Returns None if the setting does not have two levels, or there are fewer than two pairs.
    """
    from scipy import stats

    rows = drop_aliases(comparable_runs(table, model, column))
    setting = {factor.name: factor for factor in varied_factors(rows)}.get(name)
    if setting is None or len(setting.levels) != 2:
        return None
    others = [other.codes(rows) for other in settings_of(rows) if other.name != name]
    by_level = rows[column].groupby([*others, setting.codes(rows)]).mean().unstack()
    differences = (by_level[1] - by_level[0]).dropna()
    if len(differences) < _MIN_PAIRS:
        return None
    mean, count = float(differences.mean()), len(differences)
    reach = float(stats.t.ppf(0.975, count - 1) * stats.sem(differences))
    higher = int((differences > 0).sum())
    return PairedDifference(count, higher, mean, low=mean - reach, high=mean + reach)
