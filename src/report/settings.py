"""Hyperparameters of the runs in a table: which of them vary, their values, runs in words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from src.config import RunConfig
from src.report.table import MODEL, run_ids
from src.runs.aggregate import with_settings

HYPERPARAMETERS = {
    "augmentation": "augmented",
    "scheduler": "",
    "learning_rate": "lr",
    "weight_decay": "wd",
    "gamma": "gamma",
}
"""Columns of the published format that are hyperparameters, and their short names in labels."""

MAX_LEVELS = 12
"""Of a grid's numbers; a random search draws hundreds of different ones."""
_TITLES = {MODEL: "model"}
_NOT_LISTED = {  # in the table under another name, or without influence on what is learnt
    *("model_type", "data_augmentation", "base_dataset_path", "parent_weights"),
    *("device", "cuda_graphs", "keep_checkpoints", "checkpoint_minutes"),
}
SETTING_FIELDS = tuple(
    field.name for field in fields(RunConfig) if field.name not in {*_NOT_LISTED, "precision"}
)
"""Fields of RunConfig that tell runs apart; a table has the precision and device of the result."""
_OWN_COLUMNS = ("num_epochs", "batch_size", "seed")
_GAMMA = RunConfig.__dataclass_fields__["gamma"].metadata["matters_if"]


@dataclass(frozen=True)
class Setting:
    """A hyperparameter as a factor: a column of the table and its levels."""

    name: str
    levels: tuple[Any, ...]
    """Distinct values, numbers in ascending order; None, for empty cells, comes last."""

    @property
    def title(self) -> str:
        """The name in words."""
        return _TITLES.get(self.name, self.name.replace("_", " "))

    @property
    def is_continuous(self) -> bool:
        """Whether it has so many levels, all numbers, that it is shown as a range of numbers."""
        return len(self.levels) > MAX_LEVELS and all(
            isinstance(level, int | float | None) for level in self.levels
        )

    @property
    def labels(self) -> list[str]:
        """The levels in words."""
        return [_level_label(self.name, level) for level in self.levels]

    def codes(self, table: pd.DataFrame) -> list[int]:
        """For each row the position of its value in `levels`, as of a pandas Categorical."""
        code_of = {level: code for code, level in enumerate(self.levels)}
        return [code_of[value] for value in _values(table, self.name)]


def settings_of(table: pd.DataFrame, others: Iterable[str] = ()) -> list[Setting]:
    """The model, the published hyperparameters, and further columns that vary.

    Further columns, `others` among them, are left out if no two runs of one architecture differ
    in them: recipes of different architectures differ in much that was never varied.
    """
    always = [MODEL, *HYPERPARAMETERS]
    further = [name for name in (*_OWN_COLUMNS, *others) if name in table and name not in always]
    by_model = table.groupby(MODEL)
    varied = [n for n in dict.fromkeys(further) if by_model[n].nunique(dropna=False).max() > 1]
    return [_setting(table, name) for name in (*always, *varied)]


def varied_settings(rows: pd.DataFrame, others: Iterable[str] = ()) -> list[Setting]:
    """The settings in which these runs differ. The model itself is not one of them.

    others: as `settings_of` takes them.
    """
    return [s for s in settings_of(rows, others) if len(s.levels) > 1 and s.name != MODEL]


def varied_factors(rows: pd.DataFrame, others: Iterable[str] = ()) -> list[Setting]:
    """The varied settings with few enough levels to average over the runs with each of them."""
    return [setting for setting in varied_settings(rows, others) if not setting.is_continuous]


def add_settings(table: pd.DataFrame, configs: Mapping[str, RunConfig]) -> pd.DataFrame:
    """The table with a column for every setting in its runs' configs (by run id) that it lacks.

    A cell is empty if the run does not use the setting, as t_max without the cosine schedule.
    """
    if not configs:
        return table
    known = [configs.get(run_id or "") for run_id in run_ids(table)]
    names = [field.name for field in fields(RunConfig) if field.name not in _NOT_LISTED]
    return with_settings(table, known, names)


def varied_fields(configs: Iterable[RunConfig]) -> list[str]:
    """The fields of RunConfig in which two runs of one architecture differ that both use them."""
    values: dict[tuple[str, str], set[object]] = {}
    for config in configs:
        for name in filter(config.uses, SETTING_FIELDS):
            key = config.model_type, name
            values.setdefault(key, set()).add(getattr(config, name))
    return sorted({name for (_, name), different in values.items() if len(different) > 1})


def varied_columns(table: pd.DataFrame) -> list[str]:
    """The same of a table without configs, whose cells are empty where a setting is not used."""
    names = [name for name in SETTING_FIELDS if name in table]
    different = table.groupby(MODEL)[names].nunique().max()
    return sorted(name for name in names if different[name] > 1)


def describe_runs(
    rows: list[dict[str, Any]], defaults: Mapping[str, object] | None = None
) -> tuple[str, list[str]]:
    """Runs in words: what all rows have in common, and a label of what is different for each row.

    defaults: further columns to compare, with their default values. A value at its default is not
    written.
    """
    defaults = defaults or {}
    shared = [name for name in HYPERPARAMETERS if len({row[name] for row in rows}) == 1]
    if len({uses_gamma(row) for row in rows}) > 1:
        shared = [name for name in shared if name != "gamma"]
    different = [name for name in HYPERPARAMETERS if name not in shared]
    further = [name for name in defaults if len({row[name] for row in rows}) > 1]
    labels = [
        _in_words(row, [*different, *(name for name in further if row[name] != defaults[name])])
        for row in rows
    ]
    common = _in_words(rows[0], shared) if rows else ""
    return common, [label or row[MODEL] for label, row in zip(labels, rows, strict=True)]


def describe_configs(
    configs: Sequence[RunConfig], without: Sequence[str] = ()
) -> tuple[str, list[str]]:
    """The same of configs, by every field that changes a result, except those in `without`."""
    rows = [
        {
            **config.canonical().as_dict(),
            MODEL: config.model_name,
            "augmentation": config.data_augmentation,
        }
        for config in configs
    ]
    listed = {*HYPERPARAMETERS, "data_augmentation", "model_type", *without}
    defaults = {
        field.name: field.default
        for field in fields(RunConfig)
        if field.metadata["changes_result"] and field.name not in listed
    }
    return describe_runs(rows, defaults)


def _in_words(row: dict[str, Any], names: Iterable[str]) -> str:
    return ", ".join(
        _value_in_words(name, row[name]) for name in names if name != "gamma" or uses_gamma(row)
    )


def uses_gamma(row: dict[str, Any]) -> bool:
    """Whether a run's schedule uses gamma: with others it has no meaning."""
    return row["scheduler"] in _GAMMA["scheduler"]


def _value_in_words(name: str, value: Any) -> str:
    if name == "augmentation":
        return "augmented" if value else "not augmented"
    text = format(value, "g") if isinstance(value, int | float) else str(value)
    if isinstance(value, bool):
        text = "on" if value else "off"
    short = HYPERPARAMETERS.get(name, name.replace("_", " "))
    # no line of a label is broken between a name and its value
    return f"{short} {text}".strip().replace(" ", "\N{NO-BREAK SPACE}")


def plain(label: str) -> str:
    """A label with ordinary spaces: in those for charts, a setting is not broken over lines."""
    return label.replace("\N{NO-BREAK SPACE}", " ")


def _setting(table: pd.DataFrame, name: str) -> Setting:
    return Setting(name, _in_order(_values(table, name)))


def merged(settings: Sequence[Setting]) -> Setting:
    """One setting with the levels of all of these, as of several architectures on one axis."""
    levels = (level for setting in settings for level in setting.levels)
    return Setting(settings[0].name, _in_order(levels))


def _in_order(values: Iterable[Any]) -> tuple[Any, ...]:
    """Distinct values: numbers ascending, off before on, others as they come; None last."""
    levels = list(dict.fromkeys(values))
    if all(isinstance(level, int | float | None) for level in levels):
        levels.sort(key=lambda level: level or 0)
    return tuple(sorted(levels, key=lambda level: level is None))


def _values(table: pd.DataFrame, name: str) -> list[Any]:
    return [None if pd.isna(value) else _as_int(value) for value in table[name].tolist()]


def _as_int(value: Any) -> Any:
    """Whole floats as int: a column with gaps is of floats, and 3.0 and 3 are one level."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _level_label(name: str, level: Any) -> str:
    if level is None:
        return "not set"
    if isinstance(level, bool) or name == "augmentation":
        return "on" if level else "off"
    return f"{level:g}" if isinstance(level, float) else str(level)
