"""The command that trains a run again."""

import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from src.common.option_fields import kind_of
from src.config import RunConfig


def of_config(config: RunConfig) -> str:
    """The command whose run is `config`, in full: every setting that is not at its default."""
    words = ["python", "src/main.py", "-d", config.base_dataset_path]
    run = config.canonical()
    for spec in fields(RunConfig):
        value, short = getattr(run, spec.name), spec.metadata["short"]
        counts = spec.metadata["changes_result"] or spec.name == "parent_weights"
        needed = counts and (short or value != spec.default)
        if spec.name != "base_dataset_path" and needed:
            words += _flag(spec.name, short, kind_of(spec), value)
    return shlex.join(words)


def of_row(row: Mapping[str, Any]) -> str:
    """The command of a row whose run folder is not there: as far as the row tells its settings."""
    named = {"Modelname": "model_type", "augmentation": "data_augmentation"}
    told = {named.get(name, name): value for name, value in row.items() if value is not None}
    words = ["python", "src/main.py"]
    for spec in fields(RunConfig):
        if spec.name in told:
            kind, value = kind_of(spec), told[spec.name]
            value = bool(value) if kind == "bool" else int(value) if kind == "int" else value
            words += _flag(spec.name, spec.metadata["short"], kind, value)
    return shlex.join(words)


def _flag(name: str, short: str | None, kind: str, value: object) -> list[str]:
    flag = f"-{short}" if short else f"--{name}"
    if kind != "bool":
        return [flag, str(value)]
    if value:
        return [flag]
    return [] if short else [f"--no_{name}"]
