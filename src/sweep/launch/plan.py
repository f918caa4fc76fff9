"""What a sweep still needs: runs to train, and workers for them. Decides, and touches nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from src.config import RunConfig
from src.runs.run_folder import RunFolder, State


@dataclass(frozen=True)
class PendingRuns:
    """Where the trainings of a group stand; `todo` are those that nobody is at."""

    name: str
    todo: Mapping[str, tuple[RunConfig, ...]]
    """By id, each with all of its grid cells."""
    unnoted: tuple[RunConfig, ...]
    """Cells of the other trainings, whose folders do not tell yet that they answer them."""
    counts: Mapping[State, int]
    given_up: int
    """Of those that failed: not to be tried again."""

    @property
    def unfinished(self) -> int:
        return len(self.todo) + self.counts[State.RUNNING]


@dataclass(frozen=True)
class QueuedWorkers:
    """Those of an earlier submission that are queued or running, and the ids of their runs."""

    group: str
    count: int
    runs: frozenset[str] = field(repr=False)


@dataclass(frozen=True)
class WorkerPool:
    """Workers to submit for the runs of a group."""

    standing: PendingRuns
    workers: int

    @property
    def cells(self) -> list[RunConfig]:
        """What they are to train: every grid cell, of which equal ones are trained once."""
        return [cell for cells in self.standing.todo.values() for cell in cells]


def standing(
    name: str,
    configs: Iterable[RunConfig],
    runs_dir: Path,
    *,
    retries: int | None,
    retry_failed: bool = False,
    prune: bool = False,
) -> PendingRuns:
    """Look where the trainings of `configs` stand.

    A failed one is to be trained unless it diverged, or more than `retries` attempts failed.
    prune: those that were stopped as hopeless are as good as done.
    """
    by_id: dict[str, list[RunConfig]] = {}
    for config in configs:
        by_id.setdefault(config.id, []).append(config)
    todo, unnoted, counts, given_up = {}, [], Counter[State](), 0
    for id_, cells in by_id.items():
        folder = RunFolder.of(cells[0], runs_dir)
        state = folder.state()
        counts[state] += 1
        over = state in (State.DONE, State.RUNNING) or (prune and state == State.PRUNED)
        left = state == State.FAILED and not retry_failed and folder.is_given_up(retries)
        given_up += left
        if over or left:
            unnoted += [cell for cell in cells if not folder.answers(cell)]
        else:
            todo[id_] = tuple(cells)
    return PendingRuns(name, todo, tuple(unnoted), counts, given_up)


def team(standing: PendingRuns, most: int, there: Sequence[QueuedWorkers]) -> WorkerPool:
    """How many workers to add to those that are `there`, for at most `most` in all.

    Runs on nobody's list get workers of their own, however many are at other lists.
    """
    ours = [workers for workers in there if workers.group == standing.name and workers.count]
    listed = frozenset[str]().union(*(workers.runs for workers in ours))
    unlisted = len(standing.todo.keys() - listed)
    short = min(most, standing.unfinished) - sum(workers.count for workers in ours)
    return WorkerPool(standing, min(len(standing.todo), max(short, min(most, unlisted), 0)))


def limited(teams: Sequence[WorkerPool], most: int) -> list[WorkerPool]:
    """The teams with at most `most` workers in all, as evenly as they can be given out."""
    shares = [0] * len(teams)
    for _ in range(min(most, sum(team.workers for team in teams))):
        short = [n for n, team in enumerate(teams) if shares[n] < team.workers]
        shares[min(short, key=lambda n: shares[n])] += 1
    return [replace(team, workers=share) for team, share in zip(teams, shares, strict=True)]
