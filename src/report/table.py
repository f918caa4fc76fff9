"""The table that reports are made of, ours or that of another sweep in the published format."""

import sys
from pathlib import Path

import pandas as pd

from src.common.errors import UserError
from src.common.option_fields import did_you_mean

TEST = "test_accuracy_best_val_acc"
_SHOWN = (TEST, "test_per_class_accuracy_best_val_acc")
NEEDED = (
    "Modelname",
    "augmentation",
    "gamma",
    "learning_rate",
    "scheduler",
    "weight_decay",
    *_SHOWN,
)
DEFAULT_RANK = "best_val_accuracy"
_RANKS = (
    DEFAULT_RANK,
    "val_accuracy",  # of the last epoch: all that the published format has
    TEST,  # which picks by the images that judge: better than nothing
)
_SHORTHAND = {"test_accuracy": TEST}
_LOWER_IS_BETTER = ("loss", "seconds")


def read(path: Path) -> pd.DataFrame:
    """A CSV in the published format, with or without our columns and a leading index column.

    Raises UserError naming what is missing.
    """
    try:
        table = pd.read_csv(path)
    except OSError as error:
        raise UserError(f"--csv {str(path)!r}: {error.strerror}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"--csv {str(path)!r}: not a CSV: {' '.join(str(error).split())}") from None
    table = table.loc[:, ~table.columns.str.startswith("Unnamed:")]
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise UserError(f"--csv {str(path)!r}: no column {', '.join(missing)}")
    if table.empty:
        raise UserError(f"--csv {str(path)!r}: no runs in it")
    text = ("Modelname", "scheduler")
    for name in NEEDED:
        if name not in text and not pd.api.types.is_numeric_dtype(table[name]):
            raise UserError(f"--csv {str(path)!r}: column {name} holds something else than numbers")
    for name in _SHOWN:
        if not table[name].dropna().between(0, 1).all():
            raise UserError(f"--csv {str(path)!r}: column {name}: expected shares from 0 to 1")
    whole = table.dropna(subset=["Modelname", *_SHOWN])
    if len(whole) < len(table):
        left = len(table) - len(whole)
        print(f"{path}: left out {left} rows without an accuracy", file=sys.stderr)
    if whole.empty:
        raise UserError(f"--csv {str(path)!r}: no run in it has an accuracy")
    return whole.astype({name: str for name in text})


def trainings(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that were trained: without the further names of the same training."""
    return table[table["alias_of"].isna()] if "alias_of" in table else table


def rank_column(table: pd.DataFrame, wanted: str | None) -> str:
    """The column to rank by. Raises UserError where it is not a column of numbers."""
    if wanted is None:
        known = [name for name in _RANKS if name in table and table[name].notna().any()]
        return known[0]
    column = _SHORTHAND.get(wanted, wanted)
    numeric = list(table.select_dtypes("number").columns)
    if column not in numeric:
        raise UserError(
            f"--rank-by {wanted!r}: no such column of numbers{did_you_mean(wanted, numeric)}"
        )
    return column


def lower_is_better(column: str) -> bool:
    """Whether a smaller value of a measure is a better one."""
    return any(word in column for word in _LOWER_IS_BETTER)


def is_share(column: str) -> bool:
    """Whether a measure goes from 0 to 1 and is read in per cent."""
    return "accuracy" in column


def ranked(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Trained rows, best first; ties stay in the table's order, rows without a value go.

    Runs that were pruned come after all that were not: they are not comparable.
    """
    rows = trainings(table).dropna(subset=[column])
    rows = rows.sort_values(column, ascending=lower_is_better(column), kind="stable")
    pruned = is_pruned(rows)
    return pd.concat([rows[~pruned], rows[pruned]])


def is_pruned(table: pd.DataFrame) -> "pd.Series[bool]":
    """For each row, whether its run was stopped as hopeless before its end."""
    if "stop_reason" in table:
        return table["stop_reason"] == "pruned"
    return pd.Series(False, index=table.index)


def architectures(table: pd.DataFrame, only: str | None = None) -> list[str]:
    """The architectures of the table, in its order, or the one wanted."""
    there = list(dict.fromkeys(table["Modelname"]))
    if only is not None and only not in there:
        raise UserError(f"--model {only!r}: expected one of {', '.join(there)}")
    return there if only is None else [only]
