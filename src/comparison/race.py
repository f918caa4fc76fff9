"""A race: configurations gain seeds in rounds, and those significantly behind drop out.

The loop is that of irace (López-Ibáñez et al. 2016). Unlike it, the race holds its error rate over
all rounds and comparisons together: the truly best configuration is dropped with probability 0.05
at most.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from src.comparison.seed_statistics import ALPHA, SeedResults

FIRST_ROUND = 2
"""Seeds before the first configuration can drop out: one does not show how much seeds differ."""


@dataclass(frozen=True)
class Dropped:
    """A configuration that dropped out."""

    name: str
    seeds: int
    """Its seeds then."""
    lead: float
    """How far the best mean was above its own then."""
    leader: str


@dataclass(frozen=True)
class Race:
    """How far a race has come."""

    remaining: tuple[str, ...]
    """Configurations that have not dropped out, best first."""
    dropped: tuple[Dropped, ...]
    seeds: int
    """Seeds that every remaining configuration has had in the last round."""
    next_round: int
    """Seeds that each needs for the round that is waited for; `seeds` if the race is over."""
    waiting: tuple[str, ...]
    """Remaining configurations whose results of the next round are missing."""
    outcome: str
    """Why it is over, in words. Empty if it is not."""

    @property
    def is_over(self) -> bool:
        """Whether no more seeds are needed."""
        return bool(self.outcome)


def rounds(seeds: int) -> range:
    """The numbers of seeds after which configurations are compared."""
    return range(FIRST_ROUND, seeds + 1)


def alpha_of_round(seeds: int) -> float:
    """The share of the error rate for each round of a race of at most `seeds` seeds."""
    return ALPHA / max(1, len(rounds(seeds)))


def run_race(
    results: Mapping[str, Sequence[float]],
    seeds: int,
    margin: float = 0.0,
    *,
    exhausted: Collection[str] = (),
    same_seeds: bool = False,
) -> Race:
    """Replay a race of at most `seeds` seeds with the results that there are.

    results: by configuration, in the order of the seeds; each may have more or fewer than others.
    margin: the race is over if all that remain are equal within it. exhausted: configurations that
    get no further results; they are compared with those that they have. same_seeds: whether the
    n-th results of all were trained with the same seed. The same results always give the same
    race. Raises ValueError if there is no configuration, or `seeds` is below 1.
    """
    if not results or seeds < 1:
        raise ValueError("a race needs a configuration and a seed")
    replay = _Replay(results, alpha_of_round(seeds), margin, same_seeds)
    for number in rounds(seeds) or (1,):
        waiting = [
            name
            for name in replay.remaining
            if len(results[name]) < number and name not in exhausted
        ]
        if waiting:
            return replay.race(next_round=number, waiting=waiting)
        if outcome := replay.round(number):
            break
    else:
        outcome = f"all {seeds} seeds are used"
    return replay.race(next_round=replay.seeds, outcome=outcome)


class _Replay:
    """The configurations of a race while its rounds are replayed."""

    def __init__(
        self,
        results: Mapping[str, Sequence[float]],
        alpha: float,
        margin: float,
        same_seeds: bool,
    ) -> None:
        self._results, self._same_seeds = results, same_seeds
        self._alpha, self._margin = alpha, margin
        self.remaining = list(results)
        self.seeds = 0
        """Seeds of each remaining configuration in the last round."""
        self._dropped: list[Dropped] = []

    def round(self, seeds: int) -> str:
        """Drop what is behind after `seeds` seeds. Returns why the race is over, or ''."""
        self.seeds = seeds
        counts = dict.fromkeys(self.remaining, seeds)
        # dropped configurations still tell how much seeds differ, and count as comparisons
        counts |= {entry.name: entry.seeds for entry in self._dropped}
        compared = SeedResults(
            [self._results[name][:count] for name, count in counts.items()],
            same_seeds=self._same_seeds and not self._dropped,
        )
        index = {name: position for position, name in enumerate(counts)}
        leader = max(self.remaining, key=lambda name: compared.means[index[name]])
        behind = [
            name
            for name in self.remaining
            if compared.is_behind(index[name], index[leader], self._alpha)
        ]
        self._dropped += [
            Dropped(name, seeds, compared.lead(index[leader], index[name]), leader)
            for name in behind
        ]
        self.remaining = [name for name in self.remaining if name not in behind]
        if len(self.remaining) == 1:
            return "one is left"
        if self._margin and all(
            compared.upper_lead(index[leader], index[name], self._alpha) < self._margin
            for name in self.remaining
            if name != leader
        ):
            return f"those left are equal within {100 * self._margin:g} points"
        return ""

    def race(self, *, next_round: int, waiting: Sequence[str] = (), outcome: str = "") -> Race:
        """How far the race has come."""
        ranked = self.remaining
        if self.seeds:
            ranked = sorted(ranked, key=lambda name: -fmean(self._results[name][: self.seeds]))
        return Race(
            tuple(ranked), tuple(self._dropped), self.seeds, next_round, tuple(waiting), outcome
        )
