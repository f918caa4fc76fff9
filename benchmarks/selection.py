"""Error rates of choosing a winner, over simulated sweeps whose truth is known.

python -m benchmarks.selection: writes the table in docs/statistics.md. A sweep has 12
configurations, one of them ahead of all others by a gap, in standard deviations of a seed. The 5
best by one seed each are trained again with 5 fresh seeds, and the winner with 5 final ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import numpy.typing as npt

from docs.sections import replace_section
from src.cli.arguments import Parser
from src.cli.entry_point import run_main
from src.common.errors import ExitStatus
from src.common.paths import ROOT
from src.comparison.race import alpha_of_round, run_race
from src.comparison.seed_statistics import Interval, SeedResults, mean_interval

SWEEPS, CONFIGURATIONS, K, SEEDS = 2000, 12, 5, 5
GAPS = (0, 1, 2, 3, 5)
DOCUMENT = ROOT / "docs" / "statistics.md"
BEGIN, END = "<!-- selection: begin -->", "<!-- selection: end -->"
Floats = npt.NDArray[np.float64]


@dataclass
class Tally:
    """Counts over simulated sweeps."""

    covered: int = 0
    """The winner's interval over fresh seeds holds its true mean."""
    covered_by_final: int = 0
    """So does that over its final seeds."""
    best_in_set: int = 0
    """The truly best of the shortlist is not excluded."""
    best_in_race: int = 0
    """Nor does it drop out of a race."""
    covered_in_race: int = 0
    """The interval of a race's winner over its fresh seeds holds its true mean."""
    far: int = 0
    """Shortlisted configurations 3 standard deviations behind, or more."""
    far_excluded: int = 0
    trainings: int = 0
    """Of the race."""
    widths: list[float] = field(default_factory=list)
    final_widths: list[float] = field(default_factory=list)

    @property
    def saved(self) -> float:
        """Share of the trainings that the race saves."""
        return 1 - self.trainings / (SWEEPS * K * SEEDS)


def simulate(gap: float) -> Tally:
    """Simulate the sweeps of a gap. The same numbers each time."""
    random, tally = np.random.default_rng(round(10 * gap)), Tally()
    for _ in range(SWEEPS):
        truth = np.full(CONFIGURATIONS, -float(gap))
        truth[0] = 0
        chosen = np.argsort(-(truth + random.standard_normal(CONFIGURATIONS)))[:K]
        true = truth[chosen]
        results = true[:, None] + random.standard_normal((K, SEEDS))
        final = random.standard_normal(SEEDS)
        _count_intervals(tally, true, SeedResults(results.tolist()), final)
        _count_race(tally, true, results)
    return tally


def _count_intervals(tally: Tally, true: Floats, seen: SeedResults, noise: Floats) -> None:
    interval, truth = seen.interval(seen.best), float(true[seen.best])
    final = mean_interval((truth + noise).tolist())
    assert interval
    assert final
    tally.covered += _holds(interval, truth)
    tally.covered_by_final += _holds(final, truth)
    tally.widths.append(2 * interval.half_width)
    tally.final_widths.append(2 * final.half_width)
    best, together = int(true.argmax()), seen.indistinguishable()
    tally.best_in_set += best in together
    far = [index for index in range(K) if true[index] <= true[best] - 3]
    tally.far += len(far)
    tally.far_excluded += sum(index not in together for index in far)


def _count_race(tally: Tally, true: Floats, results: Floats) -> None:
    race = run_race({str(index): of.tolist() for index, of in enumerate(results)}, SEEDS)
    tally.best_in_race += str(true.argmax()) in race.remaining
    seeds = {one.name: one.seeds for one in race.dropped}
    seen = [of[: seeds.get(str(index), race.seeds)].tolist() for index, of in enumerate(results)]
    winner = int(race.remaining[0])
    interval = SeedResults(seen).interval(winner, alpha_of_round(SEEDS))
    assert interval
    tally.covered_in_race += _holds(interval, float(true[winner]))
    tally.trainings += sum(one.seeds for one in race.dropped) + len(race.remaining) * race.seeds


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def markdown() -> str:
    """The table of all gaps."""
    lines = [
        "| gap | winner's interval holds | mean width | final interval holds | mean width | best "
        "not excluded | 3 behind excluded | best stays in race | interval of its winner holds | "
        "trainings saved |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_row(gap, simulate(gap)) for gap in GAPS]
    return "\n".join(lines)


def _row(gap: float, tally: Tally) -> str:
    def share(count: int, of: int = SWEEPS) -> str:
        return f"{count / of:.1%}" if of else ""

    cells = [
        f"{gap:g}",
        share(tally.covered),
        f"{fmean(tally.widths):.2f}",
        share(tally.covered_by_final),
        f"{fmean(tally.final_widths):.2f}",
        share(tally.best_in_set),
        share(tally.far_excluded, tally.far),
        share(tally.best_in_race),
        share(tally.covered_in_race),
        f"{tally.saved:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> ExitStatus:
    """Write the table into the document, and print it."""
    Parser(prog="python -m benchmarks.selection", description=__doc__).parse(arguments)
    table = markdown()
    replace_section(DOCUMENT, BEGIN, END, table)
    print(table)
    return ExitStatus.DONE


if __name__ == "__main__":
    run_main(main)
