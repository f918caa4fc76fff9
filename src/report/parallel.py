"""All runs across their settings: where each stands on every axis of parallel coordinates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.report.charts import words
from src.report.settings import Setting, settings
from src.report.table import is_share

_DECADES = 2  # beyond as many, a searched setting is laid out by its logarithm


@dataclass(frozen=True)
class Axis:
    """A setting or a measure, and the place of each run on it."""

    words: str
    places: npt.NDArray[np.float64]
    """Runs; from 0, the lowest value, to 1; NaN for a run that does not tell it."""
    ticks: tuple[tuple[float, str], ...]
    """Places, and what is written there."""
    shared: bool
    """Whether many runs have the same place, as with the levels of a setting."""


def axes(rows: pd.DataFrame, column: str) -> list[Axis]:
    """The settings in which these runs differ, and at last the measure `column`."""
    varied = [one for one in settings(rows) if len(one.levels) > 1]
    return [*(_of_setting(rows, one) for one in varied), _of_measure(rows, column)]


def _of_setting(rows: pd.DataFrame, setting: Setting) -> Axis:
    if setting.is_wide:
        return _of_numbers(setting.words, rows[setting.name], may_be_log=True)
    last = len(setting.levels) - 1
    ticks = tuple((level / last, label) for level, label in enumerate(setting.labels))
    return Axis(setting.words, np.array(setting.places(rows)) / last, ticks, shared=True)


def _of_measure(rows: pd.DataFrame, column: str) -> Axis:
    fmt = "{:.1%}" if is_share(column) else "{:.4g}"
    return _of_numbers(words(column), rows[column], fmt)


def _of_numbers(
    name: str, column: "pd.Series[float]", fmt: str = "{:.3g}", *, may_be_log: bool = False
) -> Axis:
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    there = values[np.isfinite(values)]
    low, high = float(there.min()), float(there.max())
    log = may_be_log and low > 0 and math.log10(high / low) > _DECADES
    scaled = np.log(values) if log else values
    lowest, reach = (math.log(low), math.log(high / low)) if log else (low, high - low)
    places = (scaled - lowest) / reach if reach else np.where(np.isfinite(values), 0.5, np.nan)
    ticks: Sequence[tuple[float, float]] = [(0, low), (1, high)] if reach else [(0.5, low)]
    told = tuple((place, fmt.format(value)) for place, value in ticks)
    return Axis(name, places, told, shared=False)
