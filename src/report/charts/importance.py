"""How much of the variance between runs each hyperparameter explains, by functional ANOVA."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from src.faults.failure_classes import FailureClass
from src.report.charts.figure import ModelIndices, add_heading, line_color
from src.report.report_data import ReportData
from src.report.settings import Setting, varied_settings
from src.report.statistics import comparable_runs
from src.report.table import column_label, lower_is_better
from src.report.unfinished_runs import DIVERGED, FINISHED, OUTCOME, with_unfinished

if TYPE_CHECKING:
    import optuna

TREES = 24
"""Of the random forest. Optuna's default, 64, gives the same shares within 1 or 2 %."""
MIN_RUNS = 8
"""With fewer, the shares vary with the forest's random numbers."""


@dataclass(frozen=True)
class Importance:
    """Shares of the variance of a column by setting, highest first. They sum to 1."""

    model: str
    runs: int
    shares: dict[str, float]
    """Empty if it cannot be estimated."""
    reason: str = ""
    """Why `shares` is empty."""


def importance(
    table: pd.DataFrame, model: str, column: str, failed: pd.DataFrame | None = None
) -> Importance:
    """Importance by functional ANOVA over the finished and diverged cells of an architecture.

    Hutter et al. 2014, in Optuna's implementation, with a fixed seed. Diverged runs have the worst
    value of the finished ones; pruned and otherwise failed runs do not count. failed: as
    `Collected.failed`; None if it is not known.
    """
    rows = _finished_and_diverged(table, model, column, failed)
    varied = varied_settings(rows)
    if len(rows) < MIN_RUNS:
        plural = "" if len(rows) == 1 else "s"
        reason = f"only {len(rows)} finished run{plural}; it needs {MIN_RUNS}"
        return Importance(model, len(rows), {}, reason)
    if not varied:
        return Importance(model, len(rows), {}, "its runs differ in no setting")
    if rows[column].nunique() == 1:
        return Importance(model, len(rows), {}, f"all runs have the same {column_label(column)}")
    return Importance(model, len(rows), _fanova(rows, varied, column))


def _finished_and_diverged(
    table: pd.DataFrame, model: str, column: str, failed: pd.DataFrame | None
) -> pd.DataFrame:
    finished = comparable_runs(table, model, column)
    if failed is None or failed.empty or finished.empty:
        return finished
    every = with_unfinished(table, model, column, failed)
    worst = finished[column].max() if lower_is_better(column) else finished[column].min()
    every[column] = every[column].where(every[OUTCOME] != DIVERGED, worst)
    return every[every[OUTCOME].isin((FINISHED, DIVERGED))]


@lru_cache(maxsize=1)  # it takes seconds, and chart, table and page of a report show it
def importances(report: ReportData) -> tuple[Importance, ...]:
    """The importance of each architecture's settings."""
    runs, column = report.averaged, report.rank_column
    failed = report.failed_configurations
    return tuple(importance(runs, model, column, failed) for model in report.models)


def _fanova(rows: pd.DataFrame, varied: Sequence[Setting], column: str) -> dict[str, float]:
    with warnings.catch_warnings(action="ignore"):  # in a notebook, tqdm misses its widgets
        import optuna
    from optuna.distributions import CategoricalDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {  # of continuous settings, the order of the levels is what counts
        setting.name: IntDistribution(0, len(setting.levels) - 1)
        if setting.is_continuous
        else CategoricalDistribution(tuple(range(len(setting.levels))))
        for setting in varied
    }
    cells = zip(*(setting.codes(rows) for setting in varied), strict=True)
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=dict(zip(distributions, cell, strict=True)),
                distributions=dict(distributions),
                value=float(value),
            )
            for cell, value in zip(cells, rows[column], strict=True)
        ]
    )
    return fanova_shares(study)


def fanova_shares(study: "optuna.Study") -> dict[str, float]:
    """Shares of the variance between a study's complete trials by setting, highest first.

    Hutter et al. 2014, in Optuna's implementation, with a fixed seed.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings(action="ignore"):  # Optuna calls the evaluator experimental
        evaluator = FanovaImportanceEvaluator(n_trees=TREES, seed=0)
        by_name = get_param_importances(study, evaluator=evaluator)
    shares = {name: float(share) for name, share in by_name.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def figure(report: ReportData) -> Figure | None:
    """The chart of a report. Returns None if no architecture's importance can be estimated."""
    estimated = [estimate for estimate in importances(report) if estimate.shares]
    if not estimated:
        return None
    models = [estimate.model for estimate in estimated]
    missing = report.missing_note(*models, without=[FailureClass.DIVERGED])
    note = " ".join(filter(None, [missing, report.apart_note(*models)]))
    return draw(estimated, report.model_indices, report.rank_column, note)


def draw(estimated: Sequence[Importance], indices: ModelIndices, column: str, note: str) -> Figure:
    """A bar for each setting of each architecture."""
    rows = pd.DataFrame(
        [
            {"architecture": estimate.model, "setting": name.replace("_", " "), "share": share}
            for estimate in estimated
            for name, share in estimate.shares.items()
        ]
    )
    names, models = rows["setting"].nunique(), rows["architecture"].nunique()
    height = 1.2 + 0.16 * names * (1 + models)
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((9, height + 0.5))
        axes = figure.subplots()
        sns.barplot(
            rows,
            x="share",
            y="setting",
            hue="architecture",
            palette={estimate.model: line_color(indices[estimate.model]) for estimate in estimated},
            saturation=1,
            ax=axes,
        )
    for bars in axes.containers:
        axes.bar_label(bars, fmt=lambda share: f"{share:.0%}", padding=3, size=9)  # type: ignore[arg-type]
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set(
        ylabel="", xlabel="share of the variance", xlim=(0, min(1.08, rows["share"].max() * 1.15))
    )
    sns.despine(figure, left=True)
    sns.move_legend(axes, "lower right", frameon=True, title=None)
    method = "Functional ANOVA over the finished and diverged cells of an architecture."
    add_heading(
        figure, f"Hyperparameter importance for the {column_label(column)}", f"{method} {note}"
    )
    return figure
