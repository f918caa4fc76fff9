"""Shortlisted configurations: their seeds as points, means and intervals; the winner below."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from src.common.paths import file_name
from src.comparison.configurations import tests, validations
from src.comparison.confirmation import Confirmation, Stage, Verdict
from src.comparison.seed_statistics import Interval
from src.report.charts.figure import add_heading, line_color, wrapped
from src.report.confirmed import config_labels, confirmed_winner
from src.report.report_data import ReportData

_ROW_HEIGHT = 0.62  # inches


@dataclass(frozen=True)
class SeedRow:
    """A row of the chart: accuracies from 0 to 1."""

    label: str
    verdict: str
    points: tuple[float, ...]
    """One for each seed."""
    mean: float
    interval: Interval | None
    chosen: float | None
    """The validation accuracy when the configuration was chosen. None: not shown."""
    can_win: bool


def seed_rows(confirmation: Confirmation) -> list[SeedRow]:
    """A row for each shortlisted configuration with a result, and two for the winner's finals."""
    rows = _candidate_rows(confirmation)
    winner = confirmed_winner(confirmation)
    if winner and winner.is_final:
        accuracies = tuple(validations(winner.runs))
        count = len(winner.runs)
        rows += [
            SeedRow(
                f"winner, {count} final seeds:\nvalidation",
                "",
                accuracies,
                fmean(accuracies),
                winner.validation,
                None,
                True,
            ),
            SeedRow(
                f"winner, {count} final seeds:\ntest",
                "reported",
                tuple(tests(winner.runs)),
                winner.test_mean,
                winner.test,
                None,
                True,
            ),
        ]
    return rows


def _candidate_rows(confirmation: Confirmation) -> list[SeedRow]:
    candidates = [candidate for candidate in confirmation.candidates if candidate.mean is not None]
    labels = config_labels([candidate.chosen.config for candidate in candidates])
    return [
        SeedRow(
            label,
            f"{candidate.verdict.words}, {candidate.probability:.0%}"
            if candidate.probability
            else candidate.verdict.words,
            tuple(validations(candidate.replicates)),
            candidate.mean or 0.0,
            candidate.interval,
            candidate.chosen.chosen_accuracy,
            candidate.verdict in (Verdict.BEST, Verdict.MAY_BE_BEST),
        )
        for candidate, label in zip(candidates, labels, strict=True)
    ]


def figures(report: ReportData) -> Iterator[tuple[str, Figure]]:
    """File name, <model>_confirmed, and chart of each architecture that is being confirmed."""
    for confirmation in report.confirmations:
        if rows := seed_rows(confirmation):
            model = confirmation.plan.model
            index = report.model_indices.get(model, 0)
            yield file_name(f"{model}_confirmed"), draw(model, rows, index, _note(confirmation))


def _note(confirmation: Confirmation) -> str:
    plan = confirmation.plan
    text = (
        f"Validation accuracy over {plan.seeds} fresh seeds{' at most' if plan.race else ''} "
        "(points), mean and 95 % interval, simultaneous over the shortlist; diamond: when it was "
        "chosen. On the right: the probability of being the best of the shortlist. "
    )
    if winner := confirmed_winner(confirmation):
        return text + " ".join(winner.sentences())
    return text + (
        "" if confirmation.stage == Stage.NO_WINNER else "Not all seeds are trained yet."
    )


def draw(model: str, rows: Sequence[SeedRow], index: int, note: str) -> Figure:
    """The chart of an architecture."""
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((9.5, 1.0 + _ROW_HEIGHT * len(rows)))
        axes = figure.subplots()
    for place, row in enumerate(rows):
        _draw_row(axes, place, row, line_color(index) if row.can_win else (0.6, 0.6, 0.6))
    axes.set_yticks(range(len(rows)), [wrapped(row.label, 34) for row in rows])
    axes.tick_params(axis="y", labelsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_xlabel("accuracy")
    finals = sum(row.chosen is None for row in rows)
    if finals:
        axes.axhline(len(rows) - finals - 0.5, color="0.4", lw=1)
    sns.despine(figure, left=True)
    add_heading(figure, f"{model}: the shortlist with fresh seeds", note)
    return figure


def _draw_row(axes: Axes, place: int, row: SeedRow, color: tuple[float, float, float]) -> None:
    if row.interval:
        ends = [row.interval.low, row.interval.high]
        axes.plot(ends, [place, place], color=color, lw=4, alpha=0.35, solid_capstyle="round")
    # the points are spread a little, so that equal ones are seen
    offsets = [0.16 * (1 if number % 2 else -1) for number in range(len(row.points))]
    heights = [place + offset for offset in offsets]
    axes.scatter(row.points, heights, s=18, color=color, alpha=0.8, linewidths=0)
    axes.plot([row.mean, row.mean], [place - 0.28, place + 0.28], color=color, lw=2)
    if row.chosen is not None:
        axes.scatter([row.chosen], [place], marker="D", s=34, facecolors="none", edgecolors="0.3")
    text = f"{row.mean:.2%}  {row.verdict}"
    axes.annotate(
        text, (1.01, place), xycoords=("axes fraction", "data"), va="center", size=9, color="0.25"
    )
