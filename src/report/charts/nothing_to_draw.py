"""Why a chart of a report cannot be drawn, in one line."""

from collections.abc import Callable, Mapping

from src.report.charts.importance import importances
from src.report.report_data import ReportData
from src.report.settings import MAX_LEVELS, varied_settings
from src.report.statistics import MIN_RUNS, comparable_runs
from src.report.table import DATASET, column_label, rank_column


def reason(name: str, report: ReportData) -> str:
    """Why the chart of a command in `all_charts.CHARTS` is empty, as one line."""
    return f"{name}: nothing to draw: {_REASONS.get(name, _no_rank)(report)}"


def _no_rank(report: ReportData) -> str:
    return f"no run has a {column_label(report.rank_column)}"


def _one_data_set(report: ReportData) -> str:
    if DATASET not in report.runs:
        return f"the table has no column {DATASET}; expected runs on several data sets"
    return "the table has one data set; expected runs on several"


def _no_effects(report: ReportData) -> str:
    return _by_model(report, needed=1)


def _no_pairs(report: ReportData) -> str:
    return _by_model(report, needed=2)


def _by_model(report: ReportData, needed: int) -> str:
    """What each architecture lacks for means over the runs with each value of a setting."""
    reasons = []
    for model in report.models:
        rows = comparable_runs(report.averaged, model, report.rank_column)
        if len(rows) < MIN_RUNS:
            why = f"{_finished(len(rows), report)}; expected at least {MIN_RUNS}"
        else:
            varied = varied_settings(rows)
            names = [setting.title for setting in varied if not setting.is_continuous]
            many = [setting.title for setting in varied if setting.is_continuous]
            differ = f"differ in {' and '.join(names)} only" if names else "differ in no setting"
            if many:
                differ += f" besides {' and '.join(many)}, of which nearly every run has its own"
            expected = "a setting" if needed == 1 else "two settings"
            why = f"its runs {differ}; expected {expected} with 2 to {MAX_LEVELS} values"
        reasons.append(f"{model}: {why}")
    return ". ".join(reasons)


def _finished(count: int, report: ReportData) -> str:
    noun = "run" if report.each_run else "configuration"
    return f"{count} finished {noun}{'' if count == 1 else 's'}"


def _no_importance(report: ReportData) -> str:
    return ". ".join(f"{estimate.model}: {estimate.reason}" for estimate in importances(report))


def _no_lines(report: ReportData) -> str:
    if report.shown_runs[report.rank_column].isna().all():
        return _no_rank(report)
    return "the runs differ in no setting; expected two runs with different settings"


def _no_points(report: ReportData) -> str:
    column = rank_column(report.runs, None)
    if report.shown_runs[column].notna().any():
        return "the table has no validation accuracies"
    return f"no run of {' or '.join(report.models)} has a {column_label(column)}"


def _nothing_confirmed(report: ReportData) -> str:
    if report.runs_dir is None:
        return "expected run folders, with --runs: a table does not tell what was confirmed"
    if report.confirmations:
        return "no run of the shortlist is finished yet"
    return "nothing was confirmed: see python -m src.sweep confirm"


_REASONS: Mapping[str, Callable[[ReportData], str]] = {
    "data-sets": _one_data_set,
    "effects": _no_effects,
    "pairs": _no_pairs,
    "importance": _no_importance,
    "parallel": _no_lines,
    "scatter": _no_points,
    "confirmed": _nothing_confirmed,
}
