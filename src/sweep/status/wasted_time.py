"""Device time whose work is lost."""

from src.runs.snapshot import Snapshot, State

_SAVED = ("done", "pruned", "stopped", "unneeded")  # ends of an attempt that leave its work behind


def wasted_seconds(run: Snapshot) -> float:
    """The time of a run's attempts whose work is lost, as far as its files tell.

    Lost are attempts that failed, were taken over or were killed: all that neither live nor
    ended as done, pruned, stopped or unneeded. Of their time, so much of the epochs in the
    history survives as the other attempts had no time for. Where neither a result nor a
    checkpoint is left to go on from, all attempts are lost and nothing survives. An attempt's
    time is `Attempt.seconds`, its start and tests included; runs that share a device at a time
    count their time each.
    """
    if run.state == State.DONE and run.tries == 1:
        return 0.0
    over = run.attempts[:-1] if run.alive else run.attempts
    if not run.resumable and run.state in (State.FAILED, State.INTERRUPTED):
        return sum(attempt.seconds for attempt in over)
    lost = sum(one.seconds for one in over if one.record.get("ended") not in _SAVED)
    if not lost:
        return 0.0
    others = sum(attempt.seconds for attempt in run.attempts) - lost
    survived = sum(run.epoch_seconds) - others
    return lost - min(max(survived, 0.0), lost)
