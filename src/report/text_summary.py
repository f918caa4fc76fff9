"""The results of each architecture in a few sentences, with how far they may be chance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd

from src.common import files
from src.comparison.confirmation import Confirmation
from src.data.spec import title_of_data
from src.report.charts.top_k import RankedRun, TopK, rankings
from src.report.confirmed import confirmed_winner, shared_settings
from src.report.replicates import DEVIATION
from src.report.report_data import ReportData
from src.report.settings import Setting, describe_runs, plain, uses_gamma, varied_factors
from src.report.statistics import is_within_noise, paired_difference, stands_apart
from src.report.table import (
    BEST_VAL_ACCURACY,
    DATASET,
    MODEL,
    TEST_ACCURACY,
    cell_text,
    column_label,
    data_titles,
    drop_aliases,
    first_number,
    is_pruned,
    records,
)

_SIGNIFICANCE = 0.05
_COMMON = 0.5
"""A level that as many runs drawn at random share so often says nothing about the best."""


@dataclass(frozen=True)
class SharedLevel:
    """A level that all of the best runs have, of a setting in which other runs differ."""

    setting: Setting
    label: str
    chance: float
    """Probability that as many runs drawn at random all have one level of the setting, corrected
    for the number of settings that were looked at (Bonferroni)."""

    def __str__(self) -> str:
        return f"{self.setting.title} {self.label}"


@lru_cache(maxsize=1)  # the page and the file of a report show them
def sentences_by_model(report: ReportData) -> Mapping[str, Sequence[str]]:
    """The sentences about each architecture of a report that has ranked runs."""
    confirmed = {
        confirmation.plan.model: list(_about_confirmation(confirmation))
        for confirmation in report.confirmations
    }
    return {
        top.model: [*confirmed.get(top.model, ()), *sentences(report.configurations, top)]
        for top in rankings(report)
    }


def _about_confirmation(confirmation: Confirmation) -> Iterator[str]:
    """How the winner was confirmed, or how far that has come."""
    if winner := confirmed_winner(confirmation):
        yield f"Confirmed with fresh seeds: {shared_settings([winner.best.chosen.config])}."
        yield from winner.sentences()
    elif confirmation.missing:
        missing = len(confirmation.missing)
        yield f"The shortlist is being confirmed: {missing} trainings with fresh seeds are missing."


def markdown(report: ReportData) -> str:
    """The sentences about all architectures of a report as Markdown."""
    parts = [f"# What the sweep has shown\n\n{report.summary()}\n"]
    for model, lines in sentences_by_model(report).items():
        parts.append(f"## {model}\n\n" + "\n".join(f"- {line}" for line in lines) + "\n")
    seeds = report.seeds_note(report.shown_runs)
    parts.append(
        f"Intervals are 95 %. {seeds} How much seeds differ is not in the intervals of single "
        "runs.\n"
    )
    return "\n".join(parts)


def write(report: ReportData, folder: Path) -> list[Path]:
    """Write <folder>/findings.md."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "findings.md"
    files.write_text(path, markdown(report))
    return [path]


def sentences(table: pd.DataFrame, top: TopK) -> list[str]:
    """Sentences about an architecture.

    Its best run, the range of its best runs, the levels that they share, and the effect of
    augmentation between runs that differ in nothing else.
    """
    rows = drop_aliases(table[table[MODEL] == top.model])
    finished = rows[~is_pruned(rows)]
    runs = [run for run in top.runs if run.pruned_after is None]
    if not runs:
        return ["No run has come to its end."]
    name = cell_text(runs[0].row.get(DATASET)) if len(data_titles(table)) > 1 else None
    data = f" on {title_of_data(name)}" if name else ""
    return [
        _about_best(runs[0], top.rank_column, finished, data),
        *_about_range(runs),
        *_about_shared_levels(finished, runs),
        _about_augmentation(table, top.model),
    ]


def shared_levels(rows: pd.DataFrame, best: pd.DataFrame) -> Iterator[SharedLevel]:
    """The levels that all of `best` share, of the settings that vary among `rows`.

    Their probability is hypergeometric: as many runs are drawn from `rows` without replacement.
    """
    from scipy import stats

    looked_at = varied_factors(rows)
    if not all(uses_gamma(row) for row in records(best)):
        looked_at = [setting for setting in looked_at if setting.name != "gamma"]
    for setting in looked_at:
        codes, codes_of_best = setting.codes(rows), set(setting.codes(best))
        if len(codes_of_best) == 1:
            chance = sum(
                float(stats.hypergeom.pmf(len(best), len(rows), codes.count(code), len(best)))
                for code in range(len(setting.levels))
            )
            corrected = min(1.0, chance * len(looked_at))
            yield SharedLevel(setting, setting.labels[codes_of_best.pop()], corrected)


def _about_best(run: RankedRun, column: str, finished: pd.DataFrame, data: str) -> str:
    """The best run in a sentence. data: the end of a phrase, ' on MNIST', if data sets differ."""
    count = len(finished)
    only = "The only run" if run.seeds == 1 else "The only configuration"
    beginning = f"Best of {count} by {column_label(column)}" if count > 1 else only
    settings = plain(describe_runs([run.row])[0])
    epochs = first_number(run.row, ("num_epochs",))
    if epochs is not None and finished["num_epochs"].nunique() > 1:
        settings += f", {epochs:g} epochs"
    value = first_number(run.row, (BEST_VAL_ACCURACY, "val_accuracy"))
    validation = "" if value is None else f"validation {value:.2%}, "
    of_seeds = ""
    if run.seeds > 1:
        deviation = float(run.row[DEVIATION])
        of_seeds = f", mean of {run.seeds} seeds that deviate by {100 * deviation:.2f} points"
    return (
        f"{beginning}: {settings}. Its accuracy: {validation}test {run.accuracy:.2%}{data} "
        f"({run.low:.2%} to {run.high:.2%}){of_seeds}."
    )


def _about_range(runs: Sequence[RankedRun]) -> Iterator[str]:
    if len(runs) < 2:
        return
    most_accurate = max(runs, key=lambda run: run.accuracy)
    lowest, others = min(run.accuracy for run in runs), len(runs) - 1
    near = sum(is_within_noise(most_accurate, run) for run in runs if run is not most_accurate)
    counted = f"{near} of the {others} others are"
    if others == 1:
        counted = f"the other one is {'' if near else 'not '}".strip()
    elif near in (0, others):
        counted = f"{'all' if near else 'none'} of the {others} others are"
    yield (
        f"The {len(runs)} best lie between {lowest:.2%} and {most_accurate.accuracy:.2%} on the "
        f"test images; {counted} within noise of the most accurate of them."
    )


def _about_shared_levels(rows: pd.DataFrame, runs: Sequence[RankedRun]) -> Iterator[str]:
    if len(runs) < 2 or len(rows) <= len(runs):
        return
    best = pd.DataFrame([run.row for run in runs])
    sweep = rows[~stands_apart(rows)]  # unless it lacks a value that one of the best has
    if all(best[setting.name].isin(sweep[setting.name]).all() for setting in varied_factors(rows)):
        rows = sweep
    shared = list(shared_levels(rows, best))
    unlikely = [level for level in shared if level.chance < _SIGNIFICANCE]
    likely = [level for level in shared if _SIGNIFICANCE <= level.chance < _COMMON]
    if unlikely:
        levels = ", ".join(f"{level} (chance {level.chance:.1%})" for level in unlikely)
        yield (
            f"All {len(runs)} of them have in common, and chance would seldom do it, corrected for "
            f"the number of settings looked at: {levels}."
        )
    if likely:
        levels = ", ".join(f"{level} (chance {level.chance:.0%})" for level in likely)
        yield f"They {'also ' if unlikely else ''}share these, which may be chance: {levels}."
    if not unlikely and not likely:
        yield f"The {len(runs)} best share no value that is rare among the others."


def _about_augmentation(table: pd.DataFrame, model: str) -> str:
    difference = paired_difference(table, model, TEST_ACCURACY, "augmentation")
    if difference is None:
        return "What augmentation changes is not known: too few runs differ in it alone."
    text = (
        f"Augmentation changed the test accuracy by {100 * difference.mean:+.2f} points on average "
        f"({100 * difference.low:+.2f} to {100 * difference.high:+.2f}) over {difference.pairs} "
        f"pairs of runs that differ in it alone, and raised it in {difference.higher} of them"
    )
    return text + (": that may be noise." if difference.low <= 0 <= difference.high else ".")
