"""What each hyperparameter does to the runs of an architecture: means, and paired differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from src.report.settings import MODEL, Setting, settings
from src.report.table import is_pruned, lower_is_better, trainings

_FEWEST_PAIRS = 2  # with one, nobody knows how much pairs differ
_FEWEST_RUNS = 4  # with fewer, a mean tells of single runs


@dataclass(frozen=True)
class Effect:
    """A setting of an architecture, and the runs with each of its values."""

    setting: Setting
    means: tuple[float | None, ...]
    """Of the measure, by the setting's levels; None where no run has the level."""
    best: tuple[float | None, ...]
    runs: tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """Means over the runs with each combination of the values of two settings."""

    down: Setting
    across: Setting
    means: pd.DataFrame
    """Labels of `down` by labels of `across`; NaN where no run has both."""


@dataclass(frozen=True)
class Change:
    """By how much runs differ that differ in one setting alone."""

    pairs: int
    higher: int
    """Pairs in which the second value gave the higher measure."""
    mean: float
    low: float
    high: float
    """95 % interval of the mean, by Student's t over the pairs."""


def comparable(table: pd.DataFrame, model: str, column: str) -> pd.DataFrame:
    """The cells of an architecture that came to their end and have the measure.

    Cells that share a training count one by one, so that a full grid stays balanced.
    """
    return table[(table[MODEL] == model) & ~is_pruned(table)].dropna(subset=[column])


def varied(rows: pd.DataFrame) -> list[Setting]:
    """The settings in which these runs differ, the searched ones with their many values aside."""
    return [
        one
        for one in settings(rows)
        if len(one.levels) > 1 and one.name != MODEL and not one.is_wide
    ]


def effects(table: pd.DataFrame, model: str, column: str) -> list[Effect]:
    """The main effects of the settings that were varied; none of fewer than four runs."""
    rows = comparable(table, model, column)
    lower = lower_is_better(column)
    found: list[Effect] = []
    if len(rows) < _FEWEST_RUNS:
        return found
    for one in varied(rows):
        values = rows[column].groupby(one.places(rows))
        best = values.min() if lower else values.max()
        levels = range(len(one.levels))
        found.append(
            Effect(
                one,
                tuple(_at(values.mean(), level) for level in levels),
                tuple(_at(best, level) for level in levels),
                tuple(int(values.size().get(level, 0)) for level in levels),
            )
        )
    return found


def pairs(table: pd.DataFrame, model: str, column: str) -> list[Pair]:
    """The means of every two settings that were varied; none of fewer than four runs."""
    rows = comparable(table, model, column)
    found: list[Pair] = []
    if len(rows) < _FEWEST_RUNS:
        return found
    several = varied(rows)
    for place, down in enumerate(several):
        for across in several[place + 1 :]:
            means = rows[column].groupby([down.places(rows), across.places(rows)]).mean().unstack()
            means = means.reindex(index=range(len(down.levels)), columns=range(len(across.levels)))
            means.index, means.columns = pd.Index(down.labels), pd.Index(across.labels)
            found.append(Pair(down, across, means))
    return found


def change(table: pd.DataFrame, model: str, column: str, setting: str) -> Change | None:
    """What the second of a setting's two values changes, against runs that differ in it alone.

    None where fewer than two such pairs are there.
    """
    rows = trainings(comparable(table, model, column))
    found = {one.name: one for one in varied(rows)}
    if setting not in found or len(found[setting].levels) != 2:
        return None
    others = [one for one in settings(rows) if one.name != setting]
    keys: Sequence[list[int]] = [one.places(rows) for one in others]
    wide = rows[column].groupby([*keys, found[setting].places(rows)]).mean().unstack()
    apart = (wide[1] - wide[0]).dropna()
    if len(apart) < _FEWEST_PAIRS:
        return None
    mean, error = float(apart.mean()), float(apart.std(ddof=1)) / math.sqrt(len(apart))
    reach = float(stats.t.ppf(0.975, len(apart) - 1)) * error
    return Change(len(apart), int((apart > 0).sum()), mean, mean - reach, mean + reach)


def _at(values: "pd.Series[float]", level: int) -> float | None:
    return float(values[level]) if level in values else None
