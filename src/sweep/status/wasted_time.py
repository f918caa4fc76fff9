"""Device time whose work was lost."""

from src.runs.snapshot import Snapshot, State

_SAVED = ("done", "pruned", "stopped", "unneeded")  # ends of an attempt that keep its work


def wasted_seconds(run: Snapshot) -> float:
    """Seconds of a run's attempts whose work was lost, as far as its files show.

    Lost attempts are those that failed, were taken over or were killed. Part of their work
    survives in checkpoints: the epochs in the history that the other attempts had no time for.
    Without a result or a checkpoint all attempts are lost. An attempt counts with its start-up
    and evaluation; runs that share a device count separately.
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
