"""What a sweep still needs: runs to train, and workers for them. Decides, and touches nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from src.config import RunConfig
from src.results.store import RunFolder, State


@dataclass(frozen=True)
class Standing:
    """Where the trainings of a group stand; `todo` are those that nobody is at."""

    name: str
    todo: tuple[RunConfig, ...]
    counts: Mapping[State, int]
    given_up: int
    """Of those that failed: not to be tried again."""

    @property
    def unfinished(self) -> int:
        return len(self.todo) + self.counts[State.RUNNING]


@dataclass(frozen=True)
class Workers:
    """Those of an earlier submission that are queued or running, and the ids of their runs."""

    group: str
    count: int
    runs: frozenset[str] = field(repr=False)


@dataclass(frozen=True)
class Team:
    """Workers to submit for the runs of a group."""

    standing: Standing
    workers: int

    @property
    def runs(self) -> tuple[RunConfig, ...]:
        """What they are to train."""
        return self.standing.todo if self.workers else ()


def standing(
    name: str,
    configs: Iterable[RunConfig],
    runs_dir: Path,
    *,
    retries: int | None,
    retry_failed: bool = False,
    prune: bool = False,
) -> Standing:
    """Look where the trainings of `configs` stand.

    A failed one is to be trained unless it diverged, or more than `retries` attempts failed.
    prune: those that were stopped as hopeless are as good as done.
    """
    todo, counts, given_up = [], Counter[State](), 0
    for config in {config.id: config for config in configs}.values():
        folder = RunFolder.of(config, runs_dir)
        state = folder.state()
        counts[state] += 1
        if state in (State.DONE, State.RUNNING) or (prune and state == State.PRUNED):
            continue
        if state == State.FAILED and not retry_failed and folder.is_given_up(retries):
            given_up += 1
        else:
            todo.append(config)
    return Standing(name, tuple(todo), counts, given_up)


def team(standing: Standing, most: int, there: Sequence[Workers]) -> Team:
    """How many workers to add to those that are `there`, for at most `most` in all.

    Runs on nobody's list get workers of their own, however many are at other lists.
    """
    ours = [workers for workers in there if workers.group == standing.name and workers.count]
    listed = frozenset[str]().union(*(workers.runs for workers in ours))
    unlisted = sum(config.id not in listed for config in standing.todo)
    short = min(most, standing.unfinished) - sum(workers.count for workers in ours)
    return Team(standing, min(len(standing.todo), max(short, min(most, unlisted), 0)))


def limited(teams: Sequence[Team], most: int) -> list[Team]:
    """The teams with at most `most` workers in all, as evenly as they can be given out."""
    shares = [0] * len(teams)
    for _ in range(min(most, sum(team.workers for team in teams))):
        short = [n for n, team in enumerate(teams) if shares[n] < team.workers]
        shares[min(short, key=lambda n: shares[n])] += 1
    return [replace(team, workers=share) for team, share in zip(teams, shares, strict=True)]
