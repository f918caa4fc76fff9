"""The state of a confirmation as a table, in sentences, and as JSON."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from src.cli.terminal import console, decimal_duration, plain_table
from src.comparison.confirmation import Candidate, Confirmation, Stage
from src.comparison.seed_statistics import Spread, detectable_difference, power
from src.report.confirmed import config_labels, confirmed_winner


def print_state(confirmation: Confirmation) -> None:
    """Print the shortlist as a table, what is missing and what it costs, and the winner."""
    plan = confirmation.plan
    kind = "a race of at most" if plan.race else "with"
    print(
        f"{plan.model}: {len(plan.shortlist)} configurations, {kind} {plan.seeds} fresh seeds; "
        f"then {plan.final_seeds} final seeds of the winner"
    )
    console().print(_table(confirmation))
    for line in sentences(confirmation):
        print(line)
    print()


def sentences(confirmation: Confirmation) -> Iterator[str]:
    """What is missing and what it costs, or who has won."""
    if confirmation.stage in (Stage.REPLICATES, Stage.FINAL):
        yield from _cost(confirmation)
    if confirmation.stage == Stage.REPLICATES:
        yield from _prospect(confirmation)
    if confirmation.stage == Stage.NO_WINNER:
        yield "No shortlisted configuration can win: every one has diverged or failed."
    if confirmation.race and confirmation.plan.race:
        for entry in confirmation.race.dropped:
            yield (
                f"Dropped after {entry.seeds} seeds: {entry.name}, {100 * entry.lead:.2f} points "
                f"behind {entry.leader}."
            )
        if confirmation.race.is_over:
            yield f"The race is over: {confirmation.race.outcome}."
    if winner := confirmed_winner(confirmation):
        yield from winner.sentences()


def _cost(confirmation: Confirmation) -> Iterator[str]:
    missing, at_most = len(confirmation.missing), confirmation.most_missing
    mean = confirmation.seconds_per_run
    text = f"{missing} trainings are missing now, {at_most} at most until the end"
    if mean:
        now, until_end, each = map(decimal_duration, (missing * mean, at_most * mean, mean))
        text += f": {now} and {until_end} of device time ({each} each, as measured)"
    yield f"{text}."


def _prospect(confirmation: Confirmation) -> Iterator[str]:
    """With what probability the lead of the first over the second is detected, if it is real."""
    plan, alpha = confirmation.plan, confirmation.alpha
    if len(plan.shortlist) < 2 or plan.seeds < 2:
        return
    lead = plan.shortlist[0].chosen_accuracy - plan.shortlist[1].chosen_accuracy
    first = f"When chosen, the first led the second by {100 * lead:.2f} points"
    count = len(plan.shortlist)
    spread = confirmation.known_spread
    if spread is None:
        unit = Spread(1.0, 1)
        deviations = detectable_difference(unit, plan.seeds, count, alpha=alpha)
        yield (
            f"{first}. The spread of seeds is not known yet; with {plan.seeds} seeds a lead of "
            f"{deviations:.1f} standard deviations is detected in 80 % of cases."
        )
        return
    probability = power(lead, spread, plan.seeds, count, alpha)
    detectable = detectable_difference(spread, plan.seeds, count, alpha=alpha)
    yield (
        f"{first}; one seed's standard deviation is {100 * spread.std:.2f} points. If the "
        f"lead is real, {plan.seeds} seeds detect it with probability {probability:.0%}, and a "
        f"lead of {100 * detectable:.2f} points with 80 %."
    )


def _table(confirmation: Confirmation) -> Table:
    table = plain_table()
    names = ("configuration", "settings", "chosen with", "seeds", "mean", "95 %", "P(best)", "")
    for name in names:
        table.add_column(name, justify="left" if name in ("configuration", "settings") else "right")
    labels = config_labels([candidate.chosen.config for candidate in confirmation.candidates])
    for candidate, label in zip(confirmation.candidates, labels, strict=True):
        table.add_row(*_cells(candidate, label))
    return table


def _cells(candidate: Candidate, label: str) -> list[str]:
    chosen, interval = candidate.chosen, candidate.interval
    bounds = f"{interval.low:.2%} to {interval.high:.2%}" if interval else ""
    verdict = (
        f"dropped after {candidate.dropped.seeds}" if candidate.dropped else candidate.verdict.words
    )
    return [
        chosen.config_id,
        label,
        f"{chosen.chosen_accuracy:.2%}",
        str(len(candidate.replicates)),
        "" if candidate.mean is None else f"{candidate.mean:.2%}",
        bounds,
        f"{candidate.probability:.0%}" if candidate.replicates else "",
        verdict,
    ]


def as_json(confirmation: Confirmation) -> dict[str, Any]:
    """The state for programs. Accuracies are shares from 0 to 1."""
    winner = confirmed_winner(confirmation)
    return {
        "model": confirmation.plan.model,
        "stage": confirmation.stage,
        "missing": [run.id for run in confirmation.missing],
        "most_missing": confirmation.most_missing,
        "candidates": [
            {
                "config_id": candidate.chosen.config_id,
                "chosen_accuracy": candidate.chosen.chosen_accuracy,
                "seeds": [run.config.seed for run in candidate.replicates],
                "mean": candidate.mean,
                "interval": [candidate.interval.low, candidate.interval.high]
                if candidate.interval
                else None,
                "probability_of_best": candidate.probability,
                "verdict": candidate.verdict,
                "dropped_after": candidate.dropped.seeds if candidate.dropped else None,
                "behind": candidate.dropped.leader if candidate.dropped else None,
                "behind_by": candidate.dropped.lead if candidate.dropped else None,
            }
            for candidate in confirmation.candidates
        ],
        "winner": winner.as_json() if winner else None,
    }
