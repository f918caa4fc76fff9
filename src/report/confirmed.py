"""What is reported of a confirmed winner: its accuracies, with intervals that hold."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

import numpy as np

from src.common.errors import UserError
from src.comparison.accuracy_interval import (
    accuracy_interval,
    binomial_standard_error,
    images_standard_error,
)
from src.comparison.configurations import Replicate, tests
from src.comparison.confirmation import Candidate, Confirmation, Stage, Verdict
from src.comparison.seed_statistics import (
    ALPHA,
    Interval,
    Spread,
    maximum_modulus,
    t_critical,
)
from src.config import RunConfig
from src.report.run_analysis import predictions
from src.report.settings import describe_configs, plain
from src.report.table import TEST_IMAGES


@dataclass(frozen=True, kw_only=True)
class ConfirmedWinner:
    """The winner of an architecture. Accuracies are shares from 0 to 1."""

    model: str
    best: Candidate
    indistinguishable: tuple[Candidate, ...]
    """The other configurations that may be the best."""
    candidates: int
    selection_bias: float
    """Its validation accuracy when chosen less its mean since."""
    runs: tuple[Replicate, ...]
    """From which its accuracy is reported."""
    is_final: bool
    """Whether these had no part in choosing it."""
    validation: Interval | None
    test: Interval | None
    """For other seeds and other test images. None if the spread of seeds is unknown."""
    test_mean: float
    final_diverged: int
    """Final seeds that have diverged."""
    labels: Mapping[str, str]
    """What is different in each shortlisted configuration, in words, by config_id."""

    def sentences(self) -> Iterator[str]:
        """Its test accuracy and how much the choice flattered it; which others may be the best."""
        seeds = f"{len(self.runs)} {'final' if self.is_final else 'fresh'} seeds"
        bounds = f" ({self.test.low:.2%} to {self.test.high:.2%})" if self.test else ""
        basis = "" if self.is_final else ", simultaneous over the shortlist"
        moved = "higher" if self.selection_bias >= 0 else "lower"
        diverged = f" {self.final_diverged} final seeds diverged." if self.final_diverged else ""
        yield (
            f"The winner, {self._named(self.best)}, reaches {self.test_mean:.2%}{bounds} on "
            f"the test images over {seeds}{basis}; when it was chosen, its validation accuracy was "
            f"{100 * abs(self.selection_bias):.2f} points {moved} than it is since.{diverged}"
        )
        yield self._about_others()

    def _about_others(self) -> str:
        probability = f"It is the best of the {self.candidates} with probability "
        probability += f"{self.best.probability:.0%}"
        if not self.indistinguishable:
            return f"{probability}; all others are significantly behind it."
        names = ", ".join(
            f"{self._named(candidate)} with {candidate.probability:.0%}"
            for candidate in self.indistinguishable
        )
        return f"{probability}; not distinguishable from it: {names}."

    def _named(self, candidate: Candidate) -> str:
        return f"{self.labels[candidate.chosen.config_id]} ({candidate.chosen.config_id})"

    def as_json(self) -> dict[str, Any]:
        """Its numbers for programs."""
        return {
            "config_id": self.best.chosen.config_id,
            "probability_of_best": self.best.probability,
            "not_told_apart": [candidate.chosen.config_id for candidate in self.indistinguishable],
            "selection_bias": self.selection_bias,
            "seeds": [run.config.seed for run in self.runs],
            "seeds_are_final": self.is_final,
            "validation": _as_json(self.validation),
            "test_accuracy": self.test_mean,
            "test": _as_json(self.test),
        }


def _as_json(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


@lru_cache(maxsize=16)  # by identity: it reads predictions, and chart, table and page ask for it
def confirmed_winner(confirmation: Confirmation) -> ConfirmedWinner | None:
    """The winner, once nothing is missing. Returns None before."""
    if confirmation.stage != Stage.CONFIRMED or confirmation.selection_bias is None:
        return None
    candidates = confirmation.candidates
    best = next(candidate for candidate in candidates if candidate.verdict == Verdict.BEST)
    final = tuple(confirmation.final)
    runs = final or best.replicates
    spread = confirmation.test_spread
    critical = _critical(confirmation, spread, is_final=bool(final))
    accuracies = tests(runs)
    return ConfirmedWinner(
        model=confirmation.plan.model,
        best=best,
        indistinguishable=tuple(
            candidate for candidate in candidates if candidate.verdict == Verdict.MAY_BE_BEST
        ),
        candidates=len(candidates),
        selection_bias=confirmation.selection_bias,
        runs=runs,
        is_final=bool(final),
        validation=confirmation.final_interval() if final else best.interval,
        test=accuracy_interval(
            accuracies, spread, _images_standard_error(runs, accuracies), critical
        ),
        test_mean=fmean(accuracies),
        final_diverged=confirmation.final_diverged,
        labels={
            candidate.chosen.config_id: plain(label)
            for candidate, label in zip(
                candidates,
                config_labels([candidate.chosen.config for candidate in candidates]),
                strict=True,
            )
        },
    )


def _critical(confirmation: Confirmation, spread: Spread | None, *, is_final: bool) -> float:
    """Of the seeds' standard error: for one mean, or for the best of a shortlist."""
    if spread is None:
        return 0.0
    if is_final:
        return t_critical(spread.degrees_of_freedom, ALPHA)
    count = len(confirmation.plan.shortlist)
    return maximum_modulus(count, spread.degrees_of_freedom, confirmation.alpha)


def _images_standard_error(runs: Sequence[Replicate], accuracies: Sequence[float]) -> float:
    """The error that is due to the images; an upper bound if it is not known which were right."""
    try:
        right = [predictions.read(run.folder, features=False).is_correct for run in runs]
        return images_standard_error(np.stack(right))
    except (UserError, ValueError):  # predictions are removed, or of other images
        images = min(int(run.result.get("test_images", TEST_IMAGES)) for run in runs)
        return binomial_standard_error(fmean(accuracies), images)


def config_labels(configs: Sequence[RunConfig]) -> list[str]:
    """What is different in each of these runs, in words; their seeds do not count."""
    return describe_configs(configs, without=("seed",))[1]


def shared_settings(configs: Sequence[RunConfig]) -> str:
    """What these runs have in common, in words."""
    shared, _ = describe_configs(configs, without=("seed",))
    return plain(shared)
