"""Main effects: what the runs with each value of a hyperparameter came to."""

from dataclasses import dataclass

import pandas as pd

from src.report.settings import MODEL, Setting, settings
from src.report.table import architectures, is_pruned, ranked


@dataclass(frozen=True)
class Level:
    """The finished runs of an architecture that have one value of a setting."""

    label: str
    runs: int
    mean: float
    best: float


@dataclass(frozen=True)
class Effect:
    """A setting, and what each of its values came to, by architecture."""

    setting: Setting
    levels: dict[str, list[Level]]


def main_effects(table: pd.DataFrame, column: str) -> list[Effect]:
    """Of every setting that varies, but not over so many values that there is nothing to average.

    As on the page: cells that share a training count one by one, pruned runs not at all.
    """
    rows = table[~is_pruned(table)].dropna(subset=[column])
    varied = [one for one in settings(rows) if len(one.levels) > 1 and one.name != MODEL]
    models = architectures(rows)
    return [
        Effect(one, {model: _levels(rows[rows[MODEL] == model], one, column) for model in models})
        for one in varied
        if not one.is_wide
    ]


def _levels(rows: pd.DataFrame, setting: Setting, column: str) -> list[Level]:
    places = pd.Series(setting.places(rows), rows.index, dtype=int)
    return [
        _level(setting.labels[place], rows[places == place], column)
        for place in sorted(set(places))
    ]


def _level(label: str, rows: pd.DataFrame, column: str) -> Level:
    best = ranked(rows.drop(columns="alias_of", errors="ignore"), column).iloc[0]
    return Level(label, len(rows), float(rows[column].mean()), float(best[column]))
