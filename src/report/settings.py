"""The hyperparameters that a table of runs varies, and the values that each has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.report.numbers import SETTINGS

MODEL = "Modelname"
_MOST_LEVELS = 12  # of numbers: a search draws hundreds of them, a grid has a few
_WORDS = {MODEL: "model"}
_ALSO = ("num_epochs", "batch_size", "seed")


@dataclass(frozen=True)
class Setting:
    """A column of the table that says how runs were trained."""

    name: str
    levels: tuple[Any, ...]
    """Its values, numbers by size; None, for rows that do not tell it, comes last."""

    @property
    def words(self) -> str:
        """Its name as a person reads it."""
        return _WORDS.get(self.name, self.name.replace("_", " "))

    @property
    def is_wide(self) -> bool:
        """Whether it has so many values, all numbers, that only a range makes sense."""
        return len(self.levels) > _MOST_LEVELS and all(
            isinstance(level, int | float | None) for level in self.levels
        )

    @property
    def labels(self) -> list[str]:
        """Its values as a person reads them."""
        return [_label(self.name, level) for level in self.levels]

    def places(self, table: pd.DataFrame) -> list[int]:
        """For each row, the place of its value among the levels."""
        place = {level: number for number, level in enumerate(self.levels)}
        return [place[value] for value in _values(table, self.name)]


def settings(table: pd.DataFrame, others: Sequence[str] = ()) -> list[Setting]:
    """The settings that the table tells: its model, those of the published format, then `others`.

    Those of `others` are left out where no two runs of an architecture differ in them: recipes
    of different architectures differ in much that nobody has varied.
    """
    always = [MODEL, *SETTINGS]
    found = [_setting(table, name) for name in always]
    also = [name for name in (*_ALSO, *others) if name in table and name not in always]
    within = table.groupby(MODEL)
    varied = [n for n in dict.fromkeys(also) if within[n].nunique(dropna=False).max() > 1]
    return found + [_setting(table, name) for name in varied]


def _setting(table: pd.DataFrame, name: str) -> Setting:
    levels = list(dict.fromkeys(_values(table, name)))
    if all(isinstance(level, int | float | None) for level in levels):
        levels.sort(key=lambda level: (level is None, level or 0))
    return Setting(name, tuple(levels))


def _values(table: pd.DataFrame, name: str) -> list[Any]:
    return [None if pd.isna(value) else _plain(value) for value in table[name].tolist()]


def _plain(value: Any) -> Any:
    """A whole number is the same level whether its column is of floats or not."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _label(name: str, level: Any) -> str:
    if level is None:
        return "not told"
    if isinstance(level, bool) or name == "augmentation":
        return "on" if level else "off"
    return f"{level:g}" if isinstance(level, float) else str(level)
