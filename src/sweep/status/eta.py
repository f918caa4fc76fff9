"""Estimate the remaining time of a sweep from the runs that are done."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from src.runs.snapshot import State
from src.sweep.status.run_states import SweepRun

_UNFINISHED = (State.RUNNING, State.INTERRUPTED, State.PENDING)
_SAMPLE = 100  # least number of finished runs to average over, if there are more


@dataclass(frozen=True)
class RemainingWork:
    """The unfinished runs of an architecture with so many epochs. Failed runs do not count."""

    model: str
    num_epochs: int | None
    trainings: int
    seconds_each: float | None
    """Mean seconds of a run with all its attempts, over a sample of those done. None if none."""
    seconds: float | None
    """Seconds of all together, less the epochs already trained."""
    longest: float | None
    """Seconds of the longest one."""


def remaining_work(runs: Iterable[SweepRun]) -> list[RemainingWork]:
    """The remaining work by architecture and number of epochs."""
    groups: dict[tuple[str, int | None], list[SweepRun]] = {}
    for run in runs:
        groups.setdefault((run.model, run.num_epochs), []).append(run)
    remaining = (_of_group(*key, members) for key, members in groups.items())
    return [group for group in remaining if group.trainings]


def seconds_until_done(groups: Sequence[RemainingWork], at_a_time: int) -> float | None:
    """Seconds until all is done with so many runs at a time. Returns None if unknown."""
    if not groups:
        return 0.0
    if not at_a_time:
        return None
    seconds, longest = 0.0, 0.0
    for group in groups:
        if group.seconds is None or group.longest is None:
            return None
        seconds, longest = seconds + group.seconds, max(longest, group.longest)
    return max(seconds / at_a_time, longest)


def _of_group(model: str, num_epochs: int | None, members: Sequence[SweepRun]) -> RemainingWork:
    done = [run for run in members if run.state == State.DONE]
    some = done[:: max(1, len(done) // _SAMPLE)]
    times = [seconds for run in some if (seconds := _taken(run))]
    unfinished = [run for run in members if run.state in _UNFINISHED]
    if not times or num_epochs is None:
        return RemainingWork(model, num_epochs, len(unfinished), None, None, None)
    each = fmean(times)
    ahead = [max(0.0, each - _behind(run)) for run in unfinished]
    return RemainingWork(
        model, num_epochs, len(unfinished), each, sum(ahead), max(ahead, default=0.0)
    )


def _taken(run: SweepRun) -> float:
    return sum(attempt.seconds for attempt in run.snapshot.attempts)


def _behind(run: SweepRun) -> float:
    """Seconds of the epochs that a run has behind it and need not train again."""
    if run.state == State.PENDING or not (run.snapshot.alive or run.snapshot.resumable):
        return 0.0
    return sum(run.snapshot.epoch_seconds)
