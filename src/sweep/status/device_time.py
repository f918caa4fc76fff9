"""Device time of attempts, and how much of it was lost.

A process trains many runs on its device at the same time. Each moment of it is divided equally
among the attempts that it works on then, so that the time of all attempts adds up to the time that
devices were occupied.
"""

from collections.abc import Iterable, Sequence

from src.runs.snapshot import Attempt, Snapshot, State

_SAVED = ("done", "pruned", "stopped", "unneeded")  # ends of an attempt that keep its work


def total_seconds(runs: Iterable[Snapshot]) -> float:
    """Device seconds of all attempts at `runs`."""
    return sum(device_seconds(attempt for run in runs for attempt in run.attempts).values())


def wasted_seconds(runs: Sequence[Snapshot]) -> float:
    """Device seconds of attempts at `runs` whose work was lost, as far as the files show it.

    The attempts of all runs are read only if some work was lost.
    """
    candidates = [run for run in runs if run.state != State.DONE or run.tries > 1]
    if not any(_lost_part(run) for run in candidates):
        return 0.0
    shares = device_seconds(attempt for run in runs for attempt in run.attempts)
    return sum(
        lost * shares[id(attempt)] for run in candidates for attempt, lost in _lost_part(run)
    )


def device_seconds(attempts: Iterable[Attempt]) -> dict[int, float]:
    """Seconds of device time of each attempt, by id(attempt)."""
    by_process: dict[object, list[Attempt]] = {}
    for attempt in attempts:
        process = attempt.record.get("process")  # records of early versions lack it
        key = tuple(sorted(process.items())) if process else id(attempt)
        by_process.setdefault(key, []).append(attempt)
    shares: dict[int, float] = {}
    for members in by_process.values():
        shares |= _divided(members)
    return shares


def _lost_part(run: Snapshot) -> list[tuple[Attempt, float]]:
    """The attempts at a run whose work was lost, each with the lost part of it, above 0 to 1.

    Those are attempts that failed, were taken over or were killed. Part of their work survives in
    checkpoints: the epochs in the history that the other attempts had no time for. Without a
    result or a checkpoint all attempts are lost. An attempt counts with its start-up and
    evaluation.
    """
    over = run.attempts[:-1] if run.alive else run.attempts
    if not run.resumable and run.state in (State.FAILED, State.INTERRUPTED):
        return [(attempt, 1.0) for attempt in over]
    lost = [attempt for attempt in over if attempt.record.get("ended") not in _SAVED]
    seconds = sum(attempt.seconds for attempt in lost)
    if not seconds:
        return []
    others = sum(attempt.seconds for attempt in run.attempts) - seconds
    survived = min(max(sum(run.epoch_seconds) - others, 0.0), seconds)
    part = 1 - survived / seconds
    return [(attempt, part) for attempt in lost] if part else []


def _divided(attempts: Sequence[Attempt]) -> dict[int, float]:
    """The share of each attempt, by id, in the time of the process that made them."""
    shares = {id(attempt): 0.0 for attempt in attempts}
    changes = sorted(
        change
        for attempt in attempts
        for change in (
            (attempt.written - attempt.seconds, 1, id(attempt)),
            (attempt.written, 0, id(attempt)),
        )
    )
    open_: set[int] = set()
    before = 0.0
    for moment, begins, attempt in changes:
        for span in open_:
            shares[span] += (moment - before) / len(open_)
        (open_.add if begins else open_.discard)(attempt)
        before = moment
    return shares
