"""The hyperparameters that a table of runs varies, and the values that each has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.report.numbers import SETTINGS

MODEL = "Modelname"
_MOST_LEVELS = 12  # of numbers: a search draws hundreds of them, a grid has a few
_WORDS = {MODEL: "model"}
_ASIDE = {  # told by other columns, or without a part in what is learnt
    *("model_type", "data_augmentation", "base_dataset_path", "parent_weights"),
    *("device", "cuda_graphs", "keep_checkpoints", "checkpoint_minutes"),
}
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


def with_settings(table: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The table with every setting that its runs' configs (by run id) tell and it does not."""
    names = dict.fromkeys(name for config in configs.values() for name in config)
    ids = told(table, "run_id")
    more = {
        name: [configs.get(run_id or "", {}).get(name) for run_id in ids]
        for name in names
        if name not in table and name not in _ASIDE
    }
    return pd.concat([table, pd.DataFrame(more, table.index, dtype=object)], axis=1)


def told(table: pd.DataFrame, name: str) -> list[str | None]:
    """A column as text; None where the table does not tell it."""
    if name not in table:
        return [None] * len(table)
    return [text(value) for value in table[name].tolist()]


def text(value: Any) -> str | None:
    """A cell as text; None where it is empty."""
    return None if value is None or pd.isna(value) else str(value)


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
