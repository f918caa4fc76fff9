"""How far the confirmation of an architecture's winner has come, derived from its run folders."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from statistics import fmean

from src.comparison.configurations import Configuration, Replicate, tests, validations
from src.comparison.confirmation_plan import ConfirmationPlan, Shortlisted
from src.comparison.race import Dropped, Race, alpha_of_round, run_race
from src.comparison.seed_statistics import (
    ALPHA,
    Interval,
    SeedResults,
    Spread,
    mean_interval,
    pooled_spread,
)
from src.config import RunConfig


class Verdict(StrEnum):
    """What the fresh seeds say about a shortlisted configuration."""

    BEST = "best"
    """It has the highest mean."""
    MAY_BE_BEST = "not told apart"
    """It is not distinguishable from the best."""
    BEHIND = "behind"
    """It is significantly behind the best."""
    UNSTABLE = "diverged"
    """A fresh seed has diverged: it cannot win."""
    UNKNOWN = "no result"
    """It has no finished run with a fresh seed."""

    @property
    def words(self) -> str:
        """The verdict for people. The value is for tables and JSON, and does not change."""
        return "not distinguishable" if self is Verdict.MAY_BE_BEST else self.value


class Stage(StrEnum):
    """What is still to be trained."""

    REPLICATES = "replicates"
    FINAL = "final seeds"
    CONFIRMED = "confirmed"
    NO_WINNER = "no winner"
    """No shortlisted configuration can be trained."""


@dataclass(frozen=True)
class Candidate:
    """A shortlisted configuration and its fresh seeds."""

    chosen: Shortlisted
    replicates: tuple[Replicate, ...]
    """Finished, in the order of the seeds; in a race at most as many as were compared."""
    verdict: Verdict
    interval: Interval | None
    """Of its true mean validation accuracy, simultaneous over the shortlist."""
    probability: float
    """That it is the truly best of the shortlist. 0 if it is not compared."""
    dropped: Dropped | None
    """How it dropped out of a race."""

    @property
    def mean(self) -> float | None:
        """Its mean validation accuracy over fresh seeds. None without any."""
        values = validations(self.replicates)
        return fmean(values) if values else None


class Confirmation:
    """A plan, and the results that there are."""

    def __init__(self, plan: ConfirmationPlan, configurations: Mapping[str, Configuration]) -> None:
        self.plan = plan
        self._of_model = [
            configuration
            for configuration in configurations.values()
            if configuration.model == plan.model
        ]
        self._chosen = {shortlisted.config_id: shortlisted for shortlisted in plan.shortlist}
        self._shortlist: dict[str, Configuration] = {
            shortlisted.config_id: configurations.get(shortlisted.config_id)
            or Configuration(shortlisted.config_id, shortlisted.config, {})
            for shortlisted in plan.shortlist
        }

    @cached_property
    def race(self) -> Race | None:
        """The race of the configurations that can win. None if there is none such.

        Without a race every configuration is to have all seeds, and they are compared once.
        """
        plan, same = self.plan, not self._has_gaps
        known = {name: self._results(name) for name in self._stable}
        results = {  # a configuration whose every seed has failed for good is out
            name: values
            for name, values in known.items()
            if values or self._missing(name, plan.seeds)
        }
        if not results:
            return None
        exhausted = [name for name in results if not self._missing(name, plan.seeds)]
        if plan.race:
            return run_race(results, plan.seeds, plan.margin, exhausted=exhausted, same_seeds=same)
        waiting = tuple(name for name in results if name not in exhausted)
        compared = [name for name in results if results[name]]
        ranked = sorted(compared, key=lambda name: -fmean(results[name]))
        outcome = "" if waiting or not compared else f"all {plan.seeds} seeds are used"
        return Race(tuple(ranked), (), plan.seeds, plan.seeds, waiting, outcome)

    @property
    def stage(self) -> Stage:
        """What is still to be trained."""
        if self.race is None or (self.race.is_over and self.winner is None):
            return Stage.NO_WINNER
        if not self.race.is_over:
            return Stage.REPLICATES if self.missing else Stage.NO_WINNER
        return Stage.FINAL if self.missing else Stage.CONFIRMED

    @cached_property
    def missing(self) -> list[RunConfig]:
        """The runs to train next. In a race those of the next round only."""
        race = self.race
        if race is None:
            return []
        if race.is_over:
            return self._missing_final()
        return [
            self._config(name, seed)
            for name in race.waiting
            for seed in self._missing(name, race.next_round)
        ]

    @property
    def most_missing(self) -> int:
        """The trainings that are still to come at most: all rounds, and the final seeds."""
        if self.race is None:
            return 0
        if self.race.is_over:
            return len(self.missing)
        rest = sum(len(self._missing(name, self.plan.seeds)) for name in self._still_in)
        return rest + self.plan.final_seeds

    @property
    def _still_in(self) -> Sequence[str]:
        assert self.race
        dropped = {entry.name for entry in self.race.dropped}
        return [name for name in self._stable if name not in dropped]

    @property
    def winner(self) -> str | None:
        """The configuration with the highest mean over fresh seeds, once they are compared."""
        return self.race.remaining[0] if self.race and self.race.is_over else None

    @cached_property
    def candidates(self) -> list[Candidate]:
        """The shortlist, best first; those that cannot win at the end."""
        compared = self._compared
        results = (
            SeedResults(list(compared.values()), same_seeds=self._same_seeds) if compared else None
        )
        probabilities = results.probability_of_best() if results else []
        names = list(compared)
        candidates = [
            self._candidate(shortlisted, names, results, probabilities)
            for shortlisted in self.plan.shortlist
        ]
        order = list(Verdict)
        return sorted(
            candidates,
            key=lambda candidate: (order.index(candidate.verdict), -(candidate.mean or 0)),
        )

    def _candidate(
        self,
        chosen: Shortlisted,
        names: Sequence[str],
        results: SeedResults | None,
        probabilities: Sequence[float],
    ) -> Candidate:
        name = chosen.config_id
        if results is None or name not in names:
            verdict = Verdict.UNKNOWN if name in self._stable else Verdict.UNSTABLE
            replicates = tuple(self._done(name))
            return Candidate(chosen, replicates, verdict, None, 0.0, None)
        index, dropped = names.index(name), self._dropped.get(name)
        count = results.counts[index]
        return Candidate(
            chosen,
            tuple(self._done(name)[:count]),
            self._verdict(index, results, dropped),
            results.interval(index, self.alpha),
            probabilities[index],
            dropped,
        )

    def _verdict(self, index: int, results: SeedResults, dropped: Dropped | None) -> Verdict:
        if dropped:
            return Verdict.BEHIND
        remaining = [i for i, name in enumerate(self._compared) if name not in self._dropped]
        best = max(remaining, key=lambda i: results.means[i])
        if index == best:
            return Verdict.BEST
        if self.plan.race:  # whoever has not dropped out may be the best
            return Verdict.MAY_BE_BEST
        return Verdict.BEHIND if results.is_behind(index, best) else Verdict.MAY_BE_BEST

    @property
    def alpha(self) -> float:
        """Of the intervals: a race may end after any of its rounds."""
        return alpha_of_round(self.plan.seeds) if self.plan.race else ALPHA

    @property
    def _dropped(self) -> dict[str, Dropped]:
        return {entry.name: entry for entry in self.race.dropped} if self.race else {}

    @cached_property
    def _compared(self) -> dict[str, list[float]]:
        """The results that count, by configuration; those that dropped out as they were then."""
        results = {name: self._results(name) for name in self._stable}
        if self.plan.race and self.race:
            seeds_of = {name: entry.seeds for name, entry in self._dropped.items()}
            seeds = self.race.seeds or self.plan.seeds
            results = {
                name: values[: seeds_of.get(name, seeds)] for name, values in results.items()
            }
        return {name: values for name, values in results.items() if values}

    @property
    def _same_seeds(self) -> bool:
        return not self._has_gaps and not self._dropped

    @property
    def final(self) -> list[Replicate]:
        """The finished runs of the winner with final seeds."""
        return self._shortlist[self.winner].done(self.plan.final) if self.winner else []

    def final_interval(self) -> Interval | None:
        """The interval of the winner's mean validation accuracy over its final seeds."""
        values = validations(self.final)
        return mean_interval(values, self.validation_spread) if values else None

    @property
    def final_diverged(self) -> int:
        """Number of final seeds that have diverged."""
        of_seed = self._shortlist[self.winner].replicates if self.winner else {}
        return sum(of_seed[seed].has_diverged for seed in self.plan.final if seed in of_seed)

    @property
    def known_spread(self) -> Spread | None:
        """The spread of validation accuracies over all configurations of the architecture."""
        return pooled_spread(
            [validations(configuration.done()) for configuration in self._of_model]
        )

    @property
    def seconds_per_run(self) -> float | None:
        """Mean training time of the shortlisted configurations' runs. None if unknown."""
        runs = (
            run
            for configuration in self._shortlist.values()
            for run in configuration.replicates.values()
        )
        seconds = [run.seconds for run in runs if run.seconds]
        return fmean(seconds) if seconds else None

    @property
    def validation_spread(self) -> Spread | None:
        """The spread of validation accuracies between seeds, over shortlist and final runs."""
        return self._spread(validations)

    @property
    def test_spread(self) -> Spread | None:
        """The spread of test accuracies between seeds, over shortlist and final runs."""
        return self._spread(tests)

    def _spread(self, values: Callable[[Sequence[Replicate]], list[float]]) -> Spread | None:
        groups = [values(self._done(name)) for name in self._stable] + [values(self.final)]
        return pooled_spread(groups)

    @property
    def selection_bias(self) -> float | None:
        """How much the choice flattered the winner: its accuracy when chosen less its mean since.

        By the final seeds, or by the fresh ones if there are none. None without a winner.
        """
        if self.winner is None:
            return None
        values = validations(self.final) or self._results(self.winner)
        return self._chosen[self.winner].chosen_accuracy - fmean(values)

    @cached_property
    def _stable(self) -> list[str]:
        """The configurations of which no fresh seed has diverged."""
        return [
            name
            for name in self._shortlist
            if not any(run.has_diverged for run in self._fresh(name))
        ]

    @property
    def _has_gaps(self) -> bool:
        """Whether a fresh run has failed for good: seeds then differ between configurations."""
        return any(run.is_given_up for name in self._stable for run in self._fresh(name))

    def _fresh(self, name: str) -> Iterator[Replicate]:
        of_seed = self._shortlist[name].replicates
        return (of_seed[seed] for seed in self.plan.fresh if seed in of_seed)

    def _done(self, name: str) -> list[Replicate]:
        return self._shortlist[name].done(self.plan.fresh)

    def _results(self, name: str) -> list[float]:
        return validations(self._done(name))

    def _missing(self, name: str, count: int) -> list[int]:
        """The fresh seeds to train next, so that the configuration has `count` results."""
        of_seed, missing, done = self._shortlist[name].replicates, list[int](), 0
        for seed in self.plan.fresh:
            run = of_seed.get(seed)
            if run and run.validation is not None:
                done += 1
            elif not (run and run.is_given_up):
                missing.append(seed)
        return missing[: max(0, count - done)]

    def _missing_final(self) -> list[RunConfig]:
        if self.winner is None:
            return []
        of_seed = self._shortlist[self.winner].replicates
        return [
            self._config(self.winner, seed)
            for seed in self.plan.final
            if not ((run := of_seed.get(seed)) and (run.is_given_up or run.validation is not None))
        ]

    def _config(self, name: str, seed: int) -> RunConfig:
        return replace(self._chosen[name].config, seed=seed)
