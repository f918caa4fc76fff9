"""How long what is not done will take, from what took how long."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from src.runs.snapshot import State
from src.sweep.status.run_states import SweepRun

_UNFINISHED = (State.RUNNING, State.INTERRUPTED, State.PENDING)
_SAMPLE = 100  # runs that are done, at least, where there are more: their mean changes little


@dataclass(frozen=True)
class RemainingWork:
    """What is not done of an architecture's runs of so many epochs; failed runs do not count."""

    model: str
    num_epochs: int | None
    trainings: int
    seconds_each: float | None
    """All attempts of a run, in the mean of (some hundred of) those done; None while none is."""
    seconds: float | None
    """Of all together, less the epochs that they have behind them."""
    longest: float | None
    """Of the one that takes longest."""


def left(trainings: Iterable[SweepRun]) -> list[RemainingWork]:
    """What is left of each architecture and number of epochs, where anything is."""
    groups: dict[tuple[str, int | None], list[SweepRun]] = {}
    for one in trainings:
        groups.setdefault((one.model, one.num_epochs), []).append(one)
    found = (_of_group(*key, members) for key, members in groups.items())
    return [group for group in found if group.trainings]


def until_done(groups: Sequence[RemainingWork], at_a_time: int) -> float | None:
    """Seconds until all is done, with so many runs at a time. Returns None if that is not known."""
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
    done = [one for one in members if one.state == State.DONE]
    some = done[:: max(1, len(done) // _SAMPLE)]
    times = [seconds for one in some if (seconds := _taken(one))]
    unfinished = [one for one in members if one.state in _UNFINISHED]
    if not times or num_epochs is None:
        return RemainingWork(model, num_epochs, len(unfinished), None, None, None)
    each = fmean(times)
    ahead = [max(0.0, each - _behind(one)) for one in unfinished]
    return RemainingWork(
        model, num_epochs, len(unfinished), each, sum(ahead), max(ahead, default=0.0)
    )


def _taken(training: SweepRun) -> float:
    return sum(attempt.seconds for attempt in training.found.attempts)


def _behind(training: SweepRun) -> float:
    """Seconds of the epochs that a run need not train again."""
    if training.state == State.PENDING or not (training.found.alive or training.found.resumable):
        return 0.0
    return sum(training.found.epoch_seconds)
