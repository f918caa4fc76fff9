"""What a confirmation compares: the shortlist and the seeds of an architecture, kept in a file.

<runs>/confirmations/<model>/<n>.json: the one with the highest number counts. A file is created
once, with link(2): of two commands that write at the same time, the second one reads again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from src.common import files
from src.common.errors import UserError
from src.common.paths import confirmations_dir, shown
from src.comparison.configurations import Configuration, validations
from src.config import RunConfig, from_mapping

FIRST_SEED = 1000
"""Of the replicates of a shortlist. A seed shows what a run is for."""
FIRST_FINAL_SEED = 2000
"""Of the final runs of a winner."""
SEEDS_APART = 1000


@dataclass(frozen=True)
class Shortlisted:
    """A configuration that was chosen for its validation accuracy."""

    config_id: str
    settings: Mapping[str, Any]
    """The fields of its config, as in config.json."""
    chosen_accuracy: float
    """Its mean validation accuracy when it was chosen, from 0 to 1."""
    chosen_seeds: int
    """Number of seeds of that mean."""

    @property
    def config(self) -> RunConfig:
        """Its settings; the seed means nothing."""
        return from_mapping(self.settings, f"shortlist, configuration {self.config_id}")


@dataclass(frozen=True, kw_only=True)
class ConfirmationPlan:
    """The shortlist of an architecture and the seeds that confirm it."""

    model: str
    shortlist: tuple[Shortlisted, ...]
    """Best first."""
    seeds: int
    """Fresh seeds of each shortlisted configuration, at most."""
    final_seeds: int
    """Seeds of the winner that have no part in choosing it."""
    race: bool = False
    margin: float = 0.0
    """Of a race, as a share of accuracy."""
    first_seed: int = FIRST_SEED
    first_final_seed: int = FIRST_FINAL_SEED

    def __post_init__(self) -> None:
        if self.seeds > SEEDS_APART or self.final_seeds > SEEDS_APART:
            raise UserError(f"--seeds, --final_seeds: expected at most {SEEDS_APART}")

    @property
    def fresh(self) -> range:
        """The fresh seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def final(self) -> range:
        """The final seeds."""
        return range(self.first_final_seed, self.first_final_seed + self.final_seeds)

    def is_selection_seed(self, seed: int) -> bool:
        """Whether a run with this seed is part of the sweep that the shortlist is chosen from."""
        first, last = self.first_seed, self.first_final_seed + SEEDS_APART
        return not first <= seed < last


def shortlist(
    configurations: Sequence[Configuration], k: int, plan: ConfirmationPlan | None = None
) -> list[Shortlisted]:
    """The k best configurations by mean validation accuracy over the seeds of the sweep.

    plan: its fresh and final seeds do not count.
    """
    candidates = []
    for configuration in configurations:
        seeds = [
            seed
            for seed in sorted(configuration.replicates)
            if plan is None or plan.is_selection_seed(seed)
        ]
        values = validations(configuration.done(seeds))
        if values:
            candidates.append(
                Shortlisted(
                    configuration.id, configuration.config.stored(), fmean(values), len(values)
                )
            )
    best_first = sorted(candidates, key=lambda each: (-each.chosen_accuracy, each.config_id))
    return best_first[:k]


def first_free_seed(configurations: Sequence[Configuration]) -> int:
    """The first seed of a block of thousands that no run of the sweep has."""
    used = max(
        (seed for configuration in configurations for seed in configuration.replicates), default=0
    )
    return max(FIRST_SEED, (used // SEEDS_APART + 1) * SEEDS_APART)


def extended(plan: ConfirmationPlan, chosen: Sequence[Shortlisted]) -> ConfirmationPlan:
    """The plan with those of `chosen` that it lacks. What it has stays, as it was chosen then."""
    known = {candidate.config_id for candidate in plan.shortlist}
    added = tuple(candidate for candidate in chosen if candidate.config_id not in known)
    return replace(plan, shortlist=plan.shortlist + added)


def read_plans(runs_dir: Path) -> dict[str, ConfirmationPlan]:
    """The latest plan of each architecture. Raises UserError if one cannot be read."""
    models = sorted(files.names_in(confirmations_dir(runs_dir)))
    plans = ((model, read_plan(runs_dir, model)) for model in models)
    return {model: plan for model, plan in plans if plan}


def read_plan(runs_dir: Path, model: str) -> ConfirmationPlan | None:
    """The latest plan of an architecture. Returns None if there is none.

    Raises UserError if it cannot be read.
    """
    numbers = list(_numbers(confirmations_dir(runs_dir) / model))
    if not numbers:
        return None
    path = _path(runs_dir, model, max(numbers))
    content = files.read_json(path)
    try:
        stored = dict(content or {})
        chosen = tuple(Shortlisted(**fields) for fields in stored.pop("shortlist"))
        return ConfirmationPlan(shortlist=chosen, **stored)
    except (KeyError, TypeError):
        raise UserError(f"{shown(path)}: not a confirmation; remove it to choose anew") from None


def write_plan(runs_dir: Path, plan: ConfirmationPlan, before: ConfirmationPlan | None) -> bool:
    """Make `plan` the latest. Returns False if `before` no longer is: read it again."""
    folder = confirmations_dir(runs_dir) / plan.model
    folder.mkdir(parents=True, exist_ok=True)
    latest = max(_numbers(folder), default=0)
    if read_plan(runs_dir, plan.model) != before:
        return False
    return files.write_once(
        _path(runs_dir, plan.model, latest + 1), files.to_json(asdict(plan)).encode()
    )


def _path(runs_dir: Path, model: str, number: int) -> Path:
    return confirmations_dir(runs_dir) / model / f"{number}.json"


def _numbers(folder: Path) -> Iterator[int]:
    for name in files.names_in(folder):
        stem, _, suffix = name.partition(".")
        if stem.isdecimal() and suffix == "json":
            yield int(stem)
