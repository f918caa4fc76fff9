"""Configurations in place of single runs: means, deviations and intervals over their seeds."""

import math
from collections.abc import Iterator, Mapping
from statistics import stdev
from typing import Any

import pandas as pd

from src.comparison.accuracy_interval import seeds_interval
from src.faults.failure_classes import FailureClass
from src.report.settings import HYPERPARAMETERS
from src.report.table import (
    TEST_ACCURACY,
    drop_aliases,
    is_pruned,
    number_of_test_images,
    records,
)

CONFIG_ID = "config_id"
SEEDS = "seeds"
"""Column: number of seeds of a configuration."""
DEVIATION = "seed_deviation"
"""Column: standard deviation of its test accuracy over seeds. Empty for one seed."""
LOW, HIGH = "test_low", "test_high"
"""Columns: 95 % interval of its mean test accuracy over seeds and images. Empty for one seed."""
_OF_ONE_RUN = ("seed",)
"""Columns that mean nothing of several runs."""
_OF_CELL = ("Full_Modelname", "alias_of")
"""Columns in which cells that share a training differ, besides their hyperparameters."""


def configurations(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each configuration, in the order of the table; numbers are means over its seeds.

    Runs that were pruned, and rows without a config_id, are rows of their own. A configuration of
    one run keeps its row. Cells that share a training are different rows, as everywhere in the
    table, with the same means. A table of one seed stays as it is but for the added columns.
    """
    none = {DEVIATION: math.nan, LOW: math.nan, HIGH: math.nan}
    ids = _config_ids(table)
    repeated = ids.isin(_repeated(table))
    single = table[~repeated].assign(**{SEEDS: 1, **none})
    if not repeated.any():
        return single
    rows = [
        row
        for _, members in table[repeated].groupby(ids[repeated])
        for row in _rows_of_configuration(members)
    ]
    merged = pd.concat([single, pd.DataFrame(rows)]).sort_index(kind="stable")
    of_one_run = {name: None for name in _OF_ONE_RUN if name in merged}
    return merged.infer_objects().assign(**of_one_run).copy()  # in few blocks of memory again


def failed_configurations(failed: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """One row for each configuration of which a seed failed, as `configurations` has of others.

    One with a finished seed in `table` has a row there already, and none here unless a seed of it
    diverged: other failures say nothing about the settings. failed: as `Collected.failed`.
    """
    if CONFIG_ID not in failed or CONFIG_ID not in table:
        return failed
    diverged = failed["failure"] == FailureClass.DIVERGED
    has_result = failed[CONFIG_ID].isin(_config_ids(table).dropna())
    counted = pd.concat([failed[diverged], failed[~diverged & ~has_result]])
    # cells that share a training are different configurations, as in the table
    names = [name for name in (CONFIG_ID, *HYPERPARAMETERS) if name in failed]
    return counted.drop_duplicates(names).sort_index()


def replicates(table: pd.DataFrame, row: Mapping[str, object]) -> pd.DataFrame:
    """The finished runs of a row of `configurations`."""
    rows = drop_aliases(table)
    return rows[_config_ids(rows) == row.get(CONFIG_ID)]


def has_replicates(table: pd.DataFrame) -> bool:
    """Whether any configuration was trained with more than one seed."""
    return bool(len(_repeated(table)))


def _repeated(table: pd.DataFrame) -> "pd.Series[Any]":
    """The config_id of each configuration with several finished runs."""
    ids = _config_ids(drop_aliases(table)).dropna()
    return ids[ids.duplicated()]


def _config_ids(rows: pd.DataFrame) -> "pd.Series[Any]":
    """The config_id of each finished run; empty for others."""
    if CONFIG_ID not in rows:
        return pd.Series(None, index=rows.index, dtype=object)
    return rows[CONFIG_ID].where(~is_pruned(rows)).astype(object)


def _rows_of_configuration(members: pd.DataFrame) -> "Iterator[pd.Series[Any]]":
    """The mean row of a configuration, and one for each further cell that shares its trainings."""
    own = drop_aliases(members)
    mean = _mean_row(own)
    yield mean
    aliases = members.drop(own.index)
    cells = pd.Series("", index=aliases.index, dtype=object)
    for name in HYPERPARAMETERS:
        cells = cells + "|" + aliases[name].astype(str)
    seeds = aliases["seed"] if "seed" in aliases else pd.Series(0, index=aliases.index)
    copies = cells.groupby([cells, seeds]).cumcount()  # cells that differ in another setting
    for place in aliases.index[~(cells + "|" + copies.astype(str)).duplicated()]:
        row = mean.copy()
        names = [name for name in (*HYPERPARAMETERS, *_OF_CELL) if name in aliases]
        row[names] = aliases.loc[place, names]
        row.name = place
        yield row


def _mean_row(members: pd.DataFrame) -> "pd.Series[Any]":
    """The row of a configuration: the mean of every result, at the place of its first run.

    A setting without effect, as gamma under cosine, may differ: it is that of the first run.
    """
    row = members.iloc[0].copy()
    for name in map(str, members.select_dtypes("number")):
        if name not in HYPERPARAMETERS and members[name].nunique(dropna=False) > 1:
            row[name] = float(members[name].mean())
    accuracies = members[TEST_ACCURACY].tolist()
    images = min(number_of_test_images(record) for record in records(members))
    interval = seeds_interval(accuracies, images)
    assert interval
    row[SEEDS], row[DEVIATION] = len(members), stdev(accuracies)
    row[LOW], row[HIGH] = interval.low, interval.high
    return row
