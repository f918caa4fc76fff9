"""Train runs in a group, in one call."""

from collections.abc import Callable, Iterator

from src.training.concurrency import Concurrency
from src.training.group import FinishedRun, TrainingGroup
from src.training.trainer import Trainer


def train(
    queue: Iterator[Trainer],
    *,
    concurrency: Concurrency | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[FinishedRun]:
    """Train every run of `queue`, yielding each as it ends."""
    with TrainingGroup(concurrency) as group:
        yield from group.train(lambda: next(queue, None), stop=stop)
