"""The table of runs: read a CSV, rank its rows, select some of them."""

import io
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from src.common.data_names import group_name
from src.common.errors import UserError, one_line
from src.common.file_retries import retry_read
from src.common.model_source import model_name
from src.common.option_fields import did_you_mean
from src.common.result_values import BEST_VAL_ACCURACY, TEST_ACCURACY, StopReason
from src.config import RunConfig
from src.data.spec import title_of_data
from src.runs.aggregate import to_csv

MODEL = "Modelname"
ARCHITECTURE = "architecture"
DATASET = "dataset"
PER_CLASS_ACCURACY = "test_per_class_accuracy_best_val_acc"
TEST_IMAGES = 10_000
"""Size of CIFAR-10's test split, assumed of a table without a column `test_images`."""

_ACCURACIES = (TEST_ACCURACY, PER_CLASS_ACCURACY)
_TEXT_COLUMNS = (MODEL, "scheduler")
_IDS = ("run_id", "alias_of", "config_id", "data_digest", "git_commit")
"""Columns of hexadecimal digits: some values, as 12e4567890, would be read as numbers."""
REQUIRED_COLUMNS = (
    *(MODEL, "augmentation", "gamma", "learning_rate", "scheduler", "weight_decay"),
    *_ACCURACIES,
)
_DEFAULT_RANK_COLUMNS = (
    BEST_VAL_ACCURACY,
    "val_accuracy",  # of the last epoch: the only one in the published format
    TEST_ACCURACY,  # selects on the images that the result is measured on: a last resort
)
_SHORTHANDS = {"test_accuracy": TEST_ACCURACY}
_LOWER_IS_BETTER = ("loss", "seconds")
_LABELS = {
    BEST_VAL_ACCURACY: "best validation accuracy",
    "val_accuracy": "validation accuracy of the last epoch",
    TEST_ACCURACY: "test accuracy",
    "train_seconds": "training time (s)",
}


def read(path: Path) -> pd.DataFrame:
    """Read a CSV in the published format, with or without our own columns and an index column.

    Rows without an accuracy are dropped, with a line on stderr. Raises UserError if the file is
    not such a table: no CSV, a column is missing or not numeric, or no row is left.
    """
    source = f"--csv {str(path)!r}"
    try:
        table = retry_read(lambda: _read_csv(path))
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: not a CSV: {one_line(error)}") from None
    return _validated(table.loc[:, ~table.columns.str.startswith("Unnamed:")], source)


def of_folders(collected: pd.DataFrame, runs_dir: Path) -> pd.DataFrame:
    """The table that `aggregate.collect` made of run folders, as `read` returns its CSV."""
    return _validated(_read_csv(io.StringIO(to_csv(collected))), f"--runs {str(runs_dir)!r}")


def _read_csv(source: Path | io.StringIO) -> pd.DataFrame:
    return pd.read_csv(source, dtype=dict.fromkeys(_IDS, str))


def _validated(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """The rows that have an accuracy, with groups. Raises UserError as `read` does."""
    _validate(table, source)
    complete = table.dropna(subset=[MODEL, *_ACCURACIES])
    if len(complete) < len(table):
        dropped = len(table) - len(complete)
        print(f"{source}: left out {dropped} rows without an accuracy", file=sys.stderr)
    if complete.empty:
        raise UserError(f"{source}: no run in it has an accuracy")
    finite = complete.replace([math.inf, -math.inf], math.nan)  # as the loss of a diverged run
    return with_groups(finite.astype({name: str for name in _TEXT_COLUMNS}))


def with_groups(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `RunConfig.group` as the name of the model, so that data sets stay apart.

    A column `architecture` keeps the names as they were, where any is changed.
    """
    if DATASET not in table:
        return table
    data_names = table[DATASET].astype(object).fillna(RunConfig.dataset).astype(str)
    groups = [group_name(*pair) for pair in zip(table[MODEL], data_names, strict=True)]
    if groups == table[MODEL].tolist():
        return table
    grouped = table.copy()
    grouped[ARCHITECTURE], grouped[MODEL] = table[MODEL], groups
    return grouped


def data_titles(table: pd.DataFrame) -> list[str]:
    """The data sets of a table, in words. Empty if it does not tell them."""
    if DATASET not in table:
        return []
    return [title_of_data(str(name)) for name in dict.fromkeys(table[DATASET].dropna())]


def data_in_words(table: pd.DataFrame) -> str:
    """The data sets of a table as part of a sentence: CIFAR-10, MNIST and SVHN."""
    *others, last = data_titles(table) or [""]
    return f"{', '.join(others)} and {last}" if others else last


def _validate(table: pd.DataFrame, source: str) -> None:
    """Raise UserError if a required column is missing or holds impossible values."""
    missing = [name for name in REQUIRED_COLUMNS if name not in table]
    if missing:
        raise UserError(f"{source}: no column {', '.join(missing)}")
    if table.empty:
        raise UserError(f"{source}: no runs in it")
    for name in REQUIRED_COLUMNS:
        if name not in _TEXT_COLUMNS and not pd.api.types.is_numeric_dtype(table[name]):
            raise UserError(f"{source}: column {name} holds something else than numbers")
    for name in _ACCURACIES:
        if not table[name].dropna().between(0, 1).all():
            raise UserError(f"{source}: column {name}: expected shares from 0 to 1")


def drop_aliases(table: pd.DataFrame) -> pd.DataFrame:
    """One row per training: without the rows that are another name of the same training."""
    return table[table["alias_of"].isna()] if "alias_of" in table else table


def rank_column(table: pd.DataFrame, rank_by: str | None) -> str:
    """The column to rank by. None: the best of the default columns that the table has.

    Raises UserError if `rank_by` is no column of numbers.
    """
    if rank_by is None:
        filled = (n for n in _DEFAULT_RANK_COLUMNS if n in table and table[n].notna().any())
        return next(filled)
    column = _SHORTHANDS.get(rank_by, rank_by)
    numeric = list(table.select_dtypes("number").columns)
    if column not in numeric:
        raise UserError(
            f"--rank_by {rank_by!r}: no such column of numbers{did_you_mean(rank_by, numeric)}"
        )
    return column


def lower_is_better(column: str) -> bool:
    """Whether smaller values of a column are better, as of losses and times."""
    return any(word in column for word in _LOWER_IS_BETTER)


def is_share(column: str) -> bool:
    """Whether a column holds shares from 0 to 1, which are shown as percentages."""
    return "accuracy" in column


def column_label(column: str) -> str:
    """A column's name in words, for titles and axes."""
    return _LABELS.get(column, column.replace("_", " "))


def rank(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """The trainings sorted by a column, best first; ties keep the table's order.

    Rows without a value are dropped. Pruned runs come last: their numbers are of fewer epochs.
    """
    rows = drop_aliases(table).dropna(subset=[column])
    rows = rows.sort_values(column, ascending=lower_is_better(column), kind="stable")
    pruned = is_pruned(rows)
    return pd.concat([rows[~pruned], rows[pruned]])


def is_pruned(table: pd.DataFrame) -> "pd.Series[bool]":
    """Row mask: whether each run was ended early by a pruner."""
    if "stop_reason" in table:
        return table["stop_reason"] == StopReason.PRUNED
    return pd.Series(False, index=table.index)


def architectures(table: pd.DataFrame, only: str | None = None) -> list[str]:
    """The architectures in the order of the table, or `only` on each data set.

    Raises UserError if `only` is not in the table.
    """
    names = list(dict.fromkeys(table[MODEL]))
    if only is None:
        return names
    only = model_name(only)
    known = table[ARCHITECTURE] if ARCHITECTURE in table else table[MODEL]
    wanted = list(dict.fromkeys(table[MODEL][(known == only) | (table[MODEL] == only)]))
    if not wanted:
        raise UserError(f"--model {only!r}: expected one of {', '.join(dict.fromkeys(known))}")
    return wanted


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries by column name."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def number_of_test_images(row: Mapping[Any, Any]) -> int:
    """How many images a row's test accuracy was measured on."""
    images = row.get("test_images")
    return TEST_IMAGES if images is None or pd.isna(images) else int(images)


def first_number(row: Mapping[str, Any], columns: tuple[str, ...]) -> float | None:
    """The value of the first of `columns` that a row has. Returns None if it has none of them."""
    values = (row.get(name) for name in columns)
    return next((float(v) for v in values if v is not None and not pd.isna(v)), None)


def run_ids(table: pd.DataFrame) -> list[str | None]:
    """The id of each run, None where it is unknown: the published table has no ids."""
    if "run_id" not in table:
        return [None] * len(table)
    return [cell_text(value) for value in table["run_id"].tolist()]


def cell_text(value: Any) -> str | None:
    """A cell as text. Returns None if it is empty."""
    return None if value is None or pd.isna(value) else str(value)
