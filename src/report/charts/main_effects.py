"""Main effects: mean and best of the runs with each level of each hyperparameter."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from src.report.charts.figure import ModelIndices, add_heading, line_color, line_marker
from src.report.report_data import ReportData
from src.report.settings import Setting, merged, varied_factors
from src.report.statistics import MIN_RUNS, comparable_runs, stands_apart
from src.report.table import column_label, is_share, lower_is_better
from src.report.unfinished_runs import (
    DIVERGED,
    FAILED,
    FINISHED,
    OUTCOME,
    PRUNED,
    RANKED,
    with_unfinished,
)
from src.runs.run_folder import State

PANELS_IN_A_ROW = 3


@dataclass(frozen=True)
class LeftOut:
    """Runs of a level that its mean leaves out."""

    diverged: int | None = 0
    """None if failures are not known, as of a table without its run folders."""
    pruned: int = 0
    failed: int | None = 0
    """For another reason, such as memory or a node, which says nothing about the level."""

    def __str__(self) -> str:
        """The counts that are not 0, in words."""
        counts = asdict(self)
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


@dataclass(frozen=True)
class MainEffect:
    """A setting of an architecture; tuples have an entry for each of its levels."""

    setting: Setting
    means: tuple[float | None, ...]
    """Of the column over the runs with the level. None: there is no such run."""
    best: tuple[float | None, ...]
    runs: tuple[int, ...]
    medians: tuple[float | None, ...]
    """Of the runs with the level, pruned ones with what they had reached and diverged ones last.
    None: there is no such run, or it is a diverged one."""
    left_out: tuple[LeftOut, ...]
    """Runs that the means leave out."""


def main_effects(
    table: pd.DataFrame, model: str, column: str, failed: pd.DataFrame | None = None
) -> list[MainEffect]:
    """The main effects of every varied setting. Empty if there are fewer than four finished runs.

    failed: settings of failed runs and, in `failure`, why. None: not known.
    """
    rows = comparable_runs(table, model, column)
    if len(rows) < MIN_RUNS:
        return []
    every = with_unfinished(table, model, column, failed)
    is_known = failed is not None
    return [_main_effect(every, column, setting, is_known) for setting in varied_factors(every)]


def _main_effect(
    every: pd.DataFrame, column: str, setting: Setting, failures_known: bool
) -> MainEffect:
    codes, levels = pd.Series(setting.codes(every), every.index), range(len(setting.levels))
    finished = every[OUTCOME] == FINISHED
    by_level = every.loc[finished, column].groupby(codes[finished])
    best = by_level.min() if lower_is_better(column) else by_level.max()
    means, sizes = by_level.mean(), by_level.size()
    medians = every[RANKED].groupby(codes).quantile(interpolation="lower")
    return MainEffect(
        setting=setting,
        means=tuple(_value(means, level) for level in levels),
        best=tuple(_value(best, level) for level in levels),
        runs=tuple(int(sizes.get(level, 0)) for level in levels),
        medians=tuple(_value(medians, level) for level in levels),
        left_out=tuple(
            _left_out(every.loc[codes == level, OUTCOME], failures_known) for level in levels
        ),
    )


def _left_out(outcomes: "pd.Series[str]", failures_known: bool) -> LeftOut:
    counts = {name: int(count) for name, count in outcomes.value_counts().items()}
    pruned = counts.get(PRUNED, 0)
    if not failures_known:
        return LeftOut(None, pruned, None)
    return LeftOut(counts.get(DIVERGED, 0), pruned, counts.get(FAILED, 0))


def _value(values: "pd.Series[float]", level: int) -> float | None:
    """The value of a level. None if it has none, or is that of a diverged run."""
    value = float(values[level]) if level in values else math.nan
    return value if math.isfinite(value) else None


def effects_by_model(report: ReportData) -> dict[str, list[MainEffect]]:
    """The main effects of a report by architecture, without architectures that have none."""
    return _by_model(report, report.averaged, report.failed_configurations)


def effects_of_runs(report: ReportData) -> dict[str, list[MainEffect]]:
    """The same over single runs, also where configurations have several seeds."""
    runs = report.shown_runs
    return _by_model(report, runs[~stands_apart(runs)], report.failed)


def _by_model(
    report: ReportData, table: pd.DataFrame, failed: pd.DataFrame | None
) -> dict[str, list[MainEffect]]:
    column = report.rank_column
    effects = {model: main_effects(table, model, column, failed) for model in report.models}
    return {model: of_model for model, of_model in effects.items() if of_model}


def figure(report: ReportData) -> Figure | None:
    """The chart of a report. Returns None if no setting varies."""
    effects = effects_by_model(report)
    if not effects:
        return None
    note = left_out_note(effects, failures_known=report.failed is not None)
    if others := report.missing(*effects, without=[State.FAILED]):
        note += f" Not shown: {others}."
    note = " ".join(filter(None, [note, report.apart_note(*effects)]))
    return draw(effects, report.model_indices, report.rank_column, note)


def draw(
    effects: Mapping[str, Sequence[MainEffect]], indices: ModelIndices, column: str, note: str
) -> Figure:
    """A panel for each setting: means as a line for each architecture, the best as dashes."""
    names = list(dict.fromkeys(e.setting.name for of_model in effects.values() for e in of_model))
    columns = min(PANELS_IN_A_ROW, len(names))
    rows = math.ceil(len(names) / columns)
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((4 * columns, 3.1 * rows + 0.5))
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    panels = list(grid.flat)
    for axes, name in zip(panels, names, strict=False):
        _draw_panel(axes, name, effects, indices)
        if is_share(column):
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    sns.despine(figure)
    figure.legend(
        handles=list(_legend(effects, indices)), loc="outside lower center", ncols=4, frameon=False
    )
    title = f"Main effects on the {column_label(column)}"
    add_heading(figure, title, f"Mean over the finished runs with each value. {note}")
    return figure


def _draw_panel(
    axes: Axes, name: str, effects: Mapping[str, Sequence[MainEffect]], indices: ModelIndices
) -> None:
    of_setting = {
        model: [effect for effect in of_model if effect.setting.name == name]
        for model, of_model in effects.items()
    }
    every = merged([effect.setting for of_model in of_setting.values() for effect in of_model])
    labels = list(dict.fromkeys(every.labels))
    for model, of_model in of_setting.items():
        color, marker = line_color(indices[model]), line_marker(indices[model])
        for effect in of_model:
            levels = zip(effect.setting.labels, effect.means, effect.best, strict=True)
            points = [(labels.index(x), mean, best) for x, mean, best in levels if mean is not None]
            x, means, best = zip(*points, strict=True)
            axes.plot(x, means, color=color, marker=marker)
            axes.scatter(x, best, color=color, marker="_", s=140)
    axes.set_xticks(range(len(labels)), _with_counts(labels, of_setting.values()), size=9)
    axes.set(title=name.replace("_", " "), xlim=(-0.4, len(labels) - 0.6))


def _with_counts(labels: Sequence[str], effects: Iterable[Sequence[MainEffect]]) -> list[str]:
    """The labels of levels, below each how many runs its mean leaves out."""
    counts: dict[str, list[LeftOut]] = {label: [] for label in labels}
    for effect in (effect for of_model in effects for effect in of_model):
        for label, left_out in zip(effect.setting.labels, effect.left_out, strict=True):
            counts[label].append(left_out)
    lines = {label: str(total(outcomes)).replace(", ", "\n") for label, outcomes in counts.items()}
    return [f"{label}\n{lines[label]}".strip() for label in labels]


def left_out_note(effects: Mapping[str, Sequence[MainEffect]], *, failures_known: bool) -> str:
    """How many runs the means leave out, in words."""
    # every setting divides the same runs
    counts = str(total(count for of_model in effects.values() for count in of_model[0].left_out))
    unknown = "" if failures_known else " Failed runs are not known."
    return ((f"Left out of the means: {counts}." if counts else "") + unknown).strip()


def total(parts: Iterable[LeftOut]) -> LeftOut:
    """The sum of counts; those that are not known count as 0."""
    columns = zip(*(astuple(part) for part in parts), strict=True)
    return LeftOut(*(sum(count or 0 for count in column) for column in columns))


def _legend(effects: Mapping[str, Sequence[MainEffect]], indices: ModelIndices) -> Iterator[Line2D]:
    for model in effects:
        color, marker = line_color(indices[model]), line_marker(indices[model])
        yield Line2D([], [], color=color, marker=marker, label=model)
    yield Line2D([], [], color="0.4", ls="", marker="_", ms=12, label="the best")
