"""The shell command that trains a run again."""

import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from src.common.data_names import SYNTHETIC
from src.common.model_source import type_of_name
from src.common.option_fields import kind_of
from src.config import RunConfig, given_names
from src.report.table import ARCHITECTURE, DATASET, MODEL

_COMMAND = ("python", "src/main.py")
_FIELD_OF_COLUMN = {MODEL: "model_type", "augmentation": "data_augmentation"}


def from_config(config: RunConfig) -> str:
    """The command of a config: flags of the data set, of all short flags and of non-defaults."""
    arguments = [*_COMMAND, "-d", config.base_dataset_path]
    run = config.canonical()
    for spec in fields(RunConfig):
        value, short = getattr(run, spec.name), spec.metadata["short"]
        matters = spec.metadata["changes_result"] or spec.name == "parent_weights"
        matters = matters and spec.name in given_names()
        if spec.name != "base_dataset_path" and matters and (short or value != spec.default):
            arguments += _flag(spec.name, short, kind_of(spec), value)
    return shlex.join(arguments)


def from_row(row: Mapping[str, Any]) -> str:
    """The command of a row of the table: only with the settings that the row has."""
    settings = {**row, MODEL: row.get(ARCHITECTURE, row.get(MODEL))}
    data_name = str(settings.pop(DATASET, SYNTHETIC))
    if not data_name.startswith(SYNTHETIC):
        settings["dataset"] = data_name
    settings[MODEL] = type_of_name(str(settings[MODEL]))
    values = {
        _FIELD_OF_COLUMN.get(column, column): value
        for column, value in settings.items()
        if value is not None
    }
    if values.get("dataset") == RunConfig.dataset:
        del values["dataset"]
    values.pop("parent", None)  # a table does not tell where its weights are
    arguments = list(_COMMAND)
    for spec in fields(RunConfig):
        if spec.name in values and spec.name in given_names():
            kind, value = kind_of(spec), values[spec.name]
            value = bool(value) if kind == "bool" else int(value) if kind == "int" else value
            arguments += _flag(spec.name, spec.metadata["short"], kind, value)
    return shlex.join(arguments)


def _flag(name: str, short: str | None, kind: str, value: object) -> list[str]:
    flag = f"-{short}" if short else f"--{name}"
    if kind != "bool":
        return [flag, str(value)]
    if value:
        return [flag]
    return [] if short else [f"--no_{name}"]
