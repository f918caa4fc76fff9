"""The data of a report: the table, what is said about all of it, and loading it.

The table is read from a CSV, or made of run folders first.
"""

import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.common.errors import UserError
from src.common.paths import CSV_FILE, REPORT_DIR, RUNS_DIR, shown
from src.common.progress import ShowProgress, show_progress, silent
from src.common.result_values import BEST_VAL_ACCURACY
from src.comparison.configurations import read_configurations
from src.comparison.confirmation import Confirmation
from src.comparison.confirmation_plan import read_plans
from src.faults.failure_classes import FailureClass
from src.report import replicates, table
from src.report.replicates import CONFIG_ID
from src.report.run_analysis import predictions
from src.report.run_analysis.run_selection import SelectedRun, runs_by_id
from src.report.settings import add_settings
from src.report.statistics import stands_apart
from src.report.table import MODEL, TEST_IMAGES
from src.runs.aggregate import Collected, collect, unfinished, write_csv
from src.runs.run_folder import State

TOP_K = 5
"""Default of k."""


@dataclass(frozen=True, eq=False)  # compared by identity: what is computed of it can be cached
class ReportData:
    """The table of a report, and which of its runs are shown."""

    runs: pd.DataFrame
    """As `table.read` returns it."""
    states: Mapping[str, Counter[State]] = field(default_factory=dict)
    """Number of run folders in each state, by architecture. Empty if there are no folders."""
    runs_dir: Path | None = None
    """The run folders of the table. None: they are not known."""
    k: int = TOP_K
    """Runs of each architecture in a top-k."""
    model: str | None = None
    """The only architecture to show. None: all."""
    rank_by: str | None = None
    """As `table.rank_column` takes it."""
    each_run: bool = False
    """Whether runs that differ in their seed alone are shown one by one."""
    failed: pd.DataFrame | None = None
    """Settings of failed runs, as `Collected.failed`. None: failures are not known."""

    @cached_property
    def rank_column(self) -> str:
        """The column that runs are ranked by."""
        return table.rank_column(self.runs, self.rank_by)

    @cached_property
    def models(self) -> list[str]:
        """The architectures that are shown. Raises UserError if `model` is not in the table."""
        return table.architectures(self.runs, self.model)

    @cached_property
    def model_indices(self) -> dict[str, int]:
        """The position of every architecture of the table, which gives its colour and marker."""
        return {model: index for index, model in enumerate(table.architectures(self.runs))}

    @cached_property
    def folders(self) -> dict[str, SelectedRun]:
        """The run folders of the table's rows, by run id."""
        return runs_by_id(self.runs_dir, filter(None, table.run_ids(self.runs)))

    @cached_property
    def shown_runs(self) -> pd.DataFrame:
        """The rows of the architectures that are shown, with all settings.

        Those are the columns of the table, and the further settings in the configs of run folders.
        """
        configs = {run_id: run.config for run_id, run in self.folders.items()}
        return add_settings(self.runs[self.runs[MODEL].isin(self.models)], configs)

    @cached_property
    def configurations(self) -> pd.DataFrame:
        """The shown runs with a row for each configuration, or for each run as `each_run` says."""
        if self.each_run:
            return self.shown_runs
        return replicates.configurations(self.shown_runs)

    @cached_property
    def failed_configurations(self) -> pd.DataFrame | None:
        """The rows of `failed` that stand beside `configurations`. None: failures are not known."""
        if self.failed is None or self.each_run:
            return self.failed
        return replicates.failed_configurations(self.failed, self.configurations)

    @cached_property
    def averaged(self) -> pd.DataFrame:
        """The configurations that main effects, pairs and importance are computed from."""
        return self.configurations[~stands_apart(self.configurations)]

    @cached_property
    def confirmations(self) -> list[Confirmation]:
        """The confirmations of the architectures that are shown. Empty without run folders.

        Raises UserError if one cannot be read.
        """
        plans = read_plans(self.runs_dir) if self.runs_dir else {}
        shown_plans = [plan for model, plan in plans.items() if model in self.models]
        if not shown_plans or self.runs_dir is None:
            return []
        configurations = read_configurations(self.runs_dir)
        return [Confirmation(plan, configurations) for plan in shown_plans]

    @cached_property
    def is_confirming(self) -> "pd.Series[bool]":
        """Whether a run of the table was trained by `confirm`, to test a choice."""
        confirming = pd.Series(False, self.runs.index)
        if CONFIG_ID not in self.runs:  # a table of before
            return confirming
        for plan in (confirmation.plan for confirmation in self.confirmations):
            ids = {shortlisted.config_id for shortlisted in plan.shortlist}
            rows = (self.runs[MODEL] == plan.model) & self.runs[CONFIG_ID].isin(ids)
            chosen_with = self.runs.loc[rows, "seed"].map(plan.is_selection_seed).astype(bool)
            confirming[chosen_with.index[~chosen_with]] = True
        return confirming

    def right_images(self, run_id: str | None) -> npt.NDArray[np.bool_] | None:
        """On which test images a run was right. Returns None without its predictions."""
        if run_id not in self.folders:
            return None
        if run_id not in self._right_images:
            try:
                read = predictions.read(self.folders[run_id].folder, features=False)
                self._right_images[run_id] = read.is_correct
            except UserError:
                self._right_images[run_id] = None
        return self._right_images[run_id]

    @cached_property
    def _right_images(self) -> dict[str, npt.NDArray[np.bool_] | None]:
        return {}

    def summary(self) -> str:
        """How many runs are shown, and what they are ranked by."""
        runs = self.shown_runs
        trainings = len(table.drop_aliases(runs))
        pruned = int(table.is_pruned(runs).sum())
        text = f"{len(runs) - pruned} finished runs"
        text += f" and {pruned} pruned ones" if pruned else ""
        text += f", {trainings} different trainings"
        if data := table.data_in_words(runs):
            text += f" on {data}"
        text += f", ranked by {table.column_label(self.rank_column)}."
        missing = self.missing_note(of_single_runs=True)
        return " ".join(filter(None, [text, missing, *self.mixture_notes()]))

    def seeds_note(self, rows: pd.DataFrame) -> str:
        """How many seeds the accuracies are of."""
        if not replicates.has_replicates(rows):
            return "One seed each."
        if self.each_run:
            return "Each run is one seed."
        return "Several seeds: their mean, and the interval for new seeds and new test images."

    def mixture_notes(self) -> list[str]:
        """A sentence for each architecture with several precisions or data sets of one name."""
        notes = []
        for model, rows in table.drop_aliases(self.shown_runs).groupby(table.MODEL, sort=False):
            for column, words in (("precision", "in"), ("data_digest", "on data")):
                if column in rows and rows[column].nunique() > 1:
                    counts = rows[column].value_counts()
                    parts = ", ".join(f"{n} {words} {value}" for value, n in counts.items())
                    notes.append(f"{model} mixes runs: {parts}.")
        return notes

    def missing(
        self,
        *models: str,
        without: Collection[State | FailureClass] = (),
        of_single_runs: bool = False,
    ) -> str:
        """How many runs have no row, by state, in words. Empty if none is missing or known.

        Those of `models`, or of all architectures that are shown. Failed seeds of a configuration
        count once, as its finished seeds do, unless `of_single_runs`.
        without: states and failures that are left out, because they are shown or told elsewhere.
        """
        counted_models = models or (self.states if self.model is None else self.models)
        by_model = (self.states.get(model, Counter()) for model in counted_models)
        counts = sum(by_model, Counter[State]())
        one_by_one = of_single_runs or self.each_run
        failed = self.failed if one_by_one else self.failed_configurations
        if failed is not None and CONFIG_ID in failed:
            is_told = failed["failure"].isin(list(map(str, without)))
            counted = failed[failed[MODEL].isin(list(counted_models)) & ~is_told]
            names = [CONFIG_ID, "seed"] if one_by_one else [CONFIG_ID]
            counts[State.FAILED] = len(counted.drop_duplicates(names))
        return unfinished(Counter({s: n for s, n in counts.items() if s not in without}))

    def apart_note(self, *models: str) -> str:
        """How many runs means leave out since they are none of a sweep, as a sentence.

        Those of `models`, or of all architectures that are shown.
        """
        left_out = self.configurations.drop(self.averaged.index)
        left_out = left_out[left_out[MODEL].isin(models or self.models)]
        count = int(left_out.get(replicates.SEEDS, pd.Series(1, left_out.index)).sum())
        runs = "1 run" if count == 1 else f"{count} runs"
        return f"Not included: {runs} with settings outside the sweep." if count else ""

    def missing_note(
        self,
        *models: str,
        without: Collection[State | FailureClass] = (),
        of_single_runs: bool = False,
    ) -> str:
        """The same as a sentence."""
        missing = self.missing(*models, without=without, of_single_runs=of_single_runs)
        if not self.states:
            return "Failures unknown."
        return f"Not shown: {missing}." if missing else ""

    def accuracy_note(self, *models: str, drawn: Sequence[Mapping[str, Any]] | None = None) -> str:
        """What a chart of accuracies needs as a footnote: intervals, images, epochs, gaps.

        models: the architectures that it ranks. None: all that are shown. drawn: the rows that it
        shows. None: all rows of these architectures.
        """
        rows = self.shown_runs[self.shown_runs[MODEL].isin(models or self.models)]
        drawn_rows = rows if drawn is None else pd.DataFrame(drawn)
        images = _images_in_words(drawn_rows)
        parts = [f"Error bars: 95 % Wilson intervals ({images} test images)."]
        parts.append(self.seeds_note(rows))
        if epochs := _maximum(drawn_rows, "num_epochs"):
            parts.append(f"At most {epochs} epochs.")
        if table.rank_column(self.runs, None) != BEST_VAL_ACCURACY:
            parts.append("The table has no best validation accuracies.")
        if pruned := int(table.is_pruned(table.drop_aliases(rows)).sum()):
            parts.append(f"{pruned} runs were pruned before their end: they rank last.")
        parts.append(self.missing_note(*models))
        return " ".join(filter(None, parts))


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Which table to report on, which of its runs, and where to write."""

    csv: Path | None = None
    """None: the table is made of the run folders."""
    runs_dir: Path | None = None
    out: Path = REPORT_DIR
    k: int | None = None
    model: str | None = None
    rank_by: str | None = None
    each_run: bool = False
    quiet: bool = False

    @property
    def show_progress(self) -> ShowProgress:
        """How progress is shown."""
        return silent if self.quiet else show_progress

    def note(self, line: str) -> None:
        """Print a line on stderr, unless quiet."""
        if not self.quiet:
            print(line, file=sys.stderr)


class NoFinishedRun(UserError):
    """There are no run folders, or none of a finished run."""


def load_report(options: TableOptions, *, write_table: bool = False) -> ReportData:
    """Read the table, or aggregate the run folders if none is given.

    write_table: write what is aggregated to clean_runs.csv. Raises UserError if the table cannot
    be read, NoFinishedRun if there is nothing to aggregate.
    """
    runs_dir, collected = options.runs_dir, None
    if options.csv is None:
        runs_dir = runs_dir or RUNS_DIR
        collected = aggregate_runs(options, CSV_FILE)
        if write_table:
            write_csv(collected.table, CSV_FILE)
        runs = table.of_folders(collected.table, runs_dir)
    else:
        if runs_dir:
            collected = collect(runs_dir, show_progress=options.show_progress)
            _note_unreadable(collected, options)
        runs = table.read(options.csv)
    return ReportData(
        runs=runs,
        states=collected.states if collected else {},
        failed=collected.failed if collected else None,
        runs_dir=runs_dir,
        k=options.k or TOP_K,
        model=options.model,
        rank_by=options.rank_by,
        each_run=options.each_run,
    )


def aggregate_runs(options: TableOptions, path: Path) -> Collected:
    """Merge the run folders into a table for `path`. Raises NoFinishedRun if no run is finished.

    The project's own table has no runs on synthetic data.
    """
    runs_dir = options.runs_dir or RUNS_DIR
    collected = collect(
        runs_dir, synthetic=path.resolve() != CSV_FILE, show_progress=options.show_progress
    )
    _note_unreadable(collected, options)
    if collected.synthetic:
        options.note(f"left out: {collected.synthetic} runs on synthetic data")
    if collected.table.empty:
        missing = unfinished(sum(collected.states.values(), Counter())) or "no others"
        raise NoFinishedRun(
            f"--runs {str(runs_dir)!r}: no finished run for {shown(path)} ({missing})"
        )
    return collected


def _note_unreadable(collected: Collected, options: TableOptions) -> None:
    for line in collected.unreadable:
        options.note(f"left out: {line}")


def _images_in_words(rows: pd.DataFrame) -> str:
    """On how many test images the accuracies of these rows were measured."""
    images = {table.number_of_test_images(row) for row in table.records(rows)}
    low, high = min(images, default=TEST_IMAGES), max(images, default=TEST_IMAGES)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _maximum(rows: pd.DataFrame, column: str) -> int | None:
    values: list[float] = rows[column].dropna().tolist() if column in rows else []
    return int(max(values)) if values else None
