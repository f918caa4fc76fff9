"""Plan a submission: which runs are to be trained, and how many workers to add. No side effects."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from src.config import RunConfig
from src.runs.run_folder import RunFolder, State


@dataclass(frozen=True)
class PendingRuns:
    """The runs of a group of configs: how many are in each state, and which are to be trained."""

    name: str
    todo: Mapping[str, tuple[RunConfig, ...]]
    """Runs that no process is training, by id, each with all of its grid cells."""
    unregistered: tuple[RunConfig, ...]
    """Grid cells of the other runs that are not yet recorded in their folders."""
    counts: Mapping[State, int]
    given_up: int
    """Failed runs that are not to be tried again."""

    @property
    def unfinished(self) -> int:
        return len(self.todo) + self.counts[State.RUNNING]


@dataclass(frozen=True)
class QueuedWorkers:
    """Workers of an earlier submission, queued or running, and the ids of their runs."""

    group: str
    count: int
    runs: frozenset[str] = field(repr=False)


@dataclass(frozen=True)
class WorkerPool:
    """Workers to submit for the runs of a group."""

    pending: PendingRuns
    workers: int

    @property
    def cells(self) -> list[RunConfig]:
        """All grid cells to be trained; equal ones are trained once."""
        return [cell for cells in self.pending.todo.values() for cell in cells]


def find_pending_runs(
    name: str,
    configs: Iterable[RunConfig],
    runs_dir: Path,
    *,
    retries: int | None,
    retry_failed: bool = False,
    prune: bool = False,
) -> PendingRuns:
    """Read the state of every run of `configs`.

    A failed run is to be trained unless it diverged, or more than `retries` of its attempts
    failed. prune: a pruned run counts as done.
    """
    by_id: dict[str, list[RunConfig]] = {}
    for config in configs:
        by_id.setdefault(config.id, []).append(config)
    todo, unregistered, counts, given_up = {}, [], Counter[State](), 0
    for id_, cells in by_id.items():
        folder = RunFolder.of(cells[0], runs_dir)
        state = folder.state()
        counts[state] += 1
        over = state in (State.DONE, State.RUNNING) or (prune and state == State.PRUNED)
        abandoned = state == State.FAILED and not retry_failed and folder.is_given_up(retries)
        given_up += abandoned
        if over or abandoned:
            unregistered += [cell for cell in cells if not folder.has_cell(cell)]
        else:
            todo[id_] = tuple(cells)
    return PendingRuns(name, todo, tuple(unregistered), counts, given_up)


def plan_worker_pool(
    pending: PendingRuns, limit: int, existing: Sequence[QueuedWorkers]
) -> WorkerPool:
    """How many workers to add to the existing ones, for at most `limit` in total.

    Runs that no existing worker was given get workers of their own, even beyond that.
    """
    own = [workers for workers in existing if workers.group == pending.name and workers.count]
    assigned = frozenset[str]().union(*(workers.runs for workers in own))
    unassigned = len(pending.todo.keys() - assigned)
    short = min(limit, pending.unfinished) - sum(workers.count for workers in own)
    return WorkerPool(pending, min(len(pending.todo), max(short, min(limit, unassigned), 0)))


def distribute_evenly(pools: Sequence[WorkerPool], limit: int) -> list[WorkerPool]:
    """The pools with at most `limit` workers in total, distributed round-robin."""
    shares = [0] * len(pools)
    for _ in range(min(limit, sum(pool.workers for pool in pools))):
        short = [n for n, pool in enumerate(pools) if shares[n] < pool.workers]
        shares[min(short, key=lambda n: shares[n])] += 1
    return [replace(pool, workers=share) for pool, share in zip(pools, shares, strict=True)]
