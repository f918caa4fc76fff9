"""A race: configurations gain seeds in rounds, and those significantly behind drop out.

The loop is that of irace (López-Ibáñez et al. 2016). Unlike it, the race holds its error rate over
all rounds and comparisons together: the truly best configuration is dropped with probability 0.05
at most.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from src.comparison.seed_statistics import ERROR_RATE, SeedResults

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


def error_rate_of_round(seeds: int) -> float:
    """The share of the error rate for each round of a race of at most `seeds` seeds."""
    return ERROR_RATE / max(1, len(rounds(seeds)))


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
    remaining, dropped, done = list(results), list[Dropped](), 0
    error_rate, outcome = error_rate_of_round(seeds), f"all {seeds} seeds are used"
    for number in rounds(seeds) or (1,):
        missing = [
            name for name in remaining if len(results[name]) < number and name not in exhausted
        ]
        if missing:
            ranked = _by_mean(remaining, results, done)
            return Race(ranked, tuple(dropped), done, number, tuple(missing), "")
        done = number
        seen = {name: results[name][:number] for name in remaining}
        # dropped configurations still tell how much seeds differ, and count as comparisons
        seen |= {entry.name: results[entry.name][: entry.seeds] for entry in dropped}
        of_seeds = SeedResults(list(seen.values()), same_seeds=same_seeds and not dropped)
        index = {name: position for position, name in enumerate(seen)}
        leader = max(remaining, key=lambda name: of_seeds.means[index[name]])
        behind = [
            name for name in remaining if of_seeds.is_behind(index[name], index[leader], error_rate)
        ]
        dropped += [
            Dropped(name, number, of_seeds.lead(index[leader], index[name]), leader)
            for name in behind
        ]
        remaining = [name for name in remaining if name not in behind]
        if len(remaining) == 1:
            outcome = "one is left"
            break
        others = [name for name in remaining if name != leader]
        if margin and all(
            of_seeds.upper_lead(index[leader], index[name], error_rate) < margin for name in others
        ):
            outcome = f"those left are equal within {100 * margin:g} points"
            break
    return Race(_by_mean(remaining, results, done), tuple(dropped), done, done, (), outcome)


def _by_mean(
    names: Sequence[str], results: Mapping[str, Sequence[float]], seeds: int
) -> tuple[str, ...]:
    if not seeds:
        return tuple(names)
    return tuple(sorted(names, key=lambda name: -fmean(results[name][:seeds])))
