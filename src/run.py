"""The whole flow on one page: configs -> leases -> trainers -> training -> results.

for each config that is not done and that no other process holds:
    take its lease              runs/run_queue.py, runs/leases.py
    build its trainer           training/trainer.py
    train, many at a time       training/group.py
    publish, or record failure  runs/publish.py
    end the lease
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from src.common.errors import NotTrainedHere, Stopped
from src.common.git import git_commit
from src.common.paths import RUNS_DIR
from src.config import RunConfig, with_missing_digests
from src.data import LoadedData, load_present
from src.faults.failure_classes import MAY_BE_BUGS, classify
from src.faults.job_restarts import plan_restart
from src.faults.node_health import raise_if_process_unusable, reporting_unusable_process
from src.runs.history import HistoryFile
from src.runs.outcome import Outcome, outcome
from src.runs.precision_decisions import PrecisionDecisions
from src.runs.publish import publish_or_fail
from src.runs.run_folder import RunFolder
from src.runs.run_queue import LeasedRun, RetryPolicy, RunQueue
from src.training.concurrency import concurrency_for
from src.training.console import ProgressDisplay, SilentDisplay
from src.training.device import pick_device
from src.training.group import FinishedRun, TrainingGroup
from src.training.preload import DataOf, load_data
from src.training.tracker import Row, Tracker, Trackers
from src.training.trainer import Trainer, TrainerContext

__all__ = ["Outcome", "Pruner", "RunOptions", "Tracking", "run"]


class Pruner(Protocol):
    """Decides which runs are not worth training to their end."""

    def should_prune(self, config: RunConfig, rows: Sequence[Row]) -> bool:
        """Whether to stop a run, given the rows of its epochs so far."""


class Tracking(Protocol):
    """Mirrors run folders elsewhere, such as in Weights & Biases."""

    def run(self, folder: RunFolder) -> Tracker:
        """The tracker of a run that starts or continues."""

    def finish(self, folder: RunFolder) -> None:
        """The run of this folder has ended, and its files are written."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How `run` trains. Only `mixed` and `pruner` can change a result, which then says so."""

    slots: int | None = None
    """Runs in training at a time. None: measured on a GPU, one on a CPU."""
    retries: int | None = None
    """How many times a failed run is trained again. None: no limit."""
    retry_failed: bool = False
    """Train every failed run again, those that diverged too."""
    mixed: bool = False
    """Also train on a device where the precision chosen for the sweep is slow, in another one."""
    pruner: Pruner | None = None
    """Ends runs early. None: runs that were pruned before are trained to their end."""
    tracking: Tracking | None = None
    display: Callable[[int], ProgressDisplay] = lambda total: SilentDisplay()
    """Shows the progress of so many runs."""
    stop: Callable[[], bool] = lambda: False
    """Asked between steps. True: save everything and raise Stopped."""
    datasets: LoadedData = field(default_factory=dict)
    """Data sets that are already loaded; `run` adds those that it loads."""


def run(
    configs: Sequence[RunConfig], runs_dir: Path = RUNS_DIR, options: RunOptions | None = None
) -> list[Outcome]:
    """Train what is not done of `configs`, and return one outcome for each.

    Raises UserError before anything is written if a config cannot work; Stopped, with everything
    saved, once options.stop() is true; DiskFull if a file does not fit; RestartNeeded if this
    process cannot go on (NodeFailure if its node is at fault); SweepStopped if run after run fails
    with the same traceback.
    """
    options = options or RunOptions()
    configs = with_missing_digests(configs)
    git_commit()  # of the code as it is now: it may be edited while this process trains
    policy = RetryPolicy(options.retries, options.retry_failed, options.pruner is not None)
    with reporting_unusable_process(runs_dir):
        queue = RunQueue(configs, runs_dir, policy)
        is_checked = queue.pending and not options.retry_failed
        failure = queue.repeated_failure() if is_checked else None
    if failure:
        raise failure.error()
    try:
        with reporting_unusable_process(runs_dir):
            notes: list[str] = []
            pending = (run.config for run in queue.pending)
            data_of = load_data(pending, options.datasets, notes.append)
            queue.register()
            if queue.pending:
                gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
                with torch.random.fork_rng(gpus), options.display(len(queue.pending)) as display:
                    for line in notes:
                        display.note(line)
                    _Worker(queue, data_of, display, options, runs_dir).train()
    except Stopped as stopped:
        stopped.restart = plan_restart(runs_dir, progressed=queue.progressed)
        raise
    load_present((config.data_key for config in configs), options.datasets)
    pairs = zip(configs, queue.folders, strict=True)
    with reporting_unusable_process(runs_dir):
        return [outcome(*pair, options.datasets, queue.left_out) for pair in pairs]


class _Worker:
    """Trains every run that a queue hands out, and ends each on disk as it ends in training."""

    def __init__(
        self,
        queue: RunQueue,
        data_of: DataOf,
        display: ProgressDisplay,
        options: RunOptions,
        runs_dir: Path,
    ) -> None:
        self.queue, self.data_of, self.display = queue, data_of, display
        self.options, self.runs_dir = options, runs_dir
        self.decisions = PrecisionDecisions(runs_dir, mixed=options.mixed)
        self.leased_by: dict[Trainer, LeasedRun] = {}

    def train(self) -> None:
        """Train until the queue is empty. Raises what `run` raises, with all leases ended."""
        queue, options = self.queue, self.options
        queue.on_ended = self.display.ended
        queue.leave_out(self.decisions.refusal)
        wait = partial(queue.wait_for_others, options.stop)
        slots = concurrency_for(options.slots, pick_device(queue.pending[0].config.device))
        try:
            with TrainingGroup(slots, self.display.note) as group:
                for finished in group.train(self._take, wait=wait, stop=options.stop):
                    self._end(finished)
                    if _may_be_a_bug(finished) and (failure := queue.repeated_failure()):
                        group.save()
                        raise failure.error()
        finally:
            queue.release_all()

    def _take(self) -> Trainer | None:
        """Lease a run and make its trainer. Returns None if there is no run to take now."""
        leased = self.queue.take()
        if leased is None:
            return None
        trainer = Trainer(
            leased.run.config, self.data_of(leased.run.config), self._context_of(leased)
        )
        self.leased_by[trainer] = leased
        return trainer

    def _context_of(self, leased: LeasedRun) -> TrainerContext:
        """What connects the trainer of a run to the run's folder, to displays and to decisions."""
        config, folder, options = leased.run.config, leased.run.folder, self.options
        mirrors = [options.tracking.run(folder)] if options.tracking else []
        shown = self.display.run(config, leased.run.number)
        pruner = options.pruner
        return TrainerContext(
            checkpoint_dir=folder.path,
            tracker=Trackers(HistoryFile(folder, leased.lease), shown, *mirrors),
            should_prune=partial(pruner.should_prune, config) if pruner else None,
            decide_precision=partial(self.decisions.decide, config),
            precision_of_sweep=partial(self.decisions.known, config),
        )

    def _end(self, finished: FinishedRun) -> None:
        """Write and show how a run ended, and end its lease."""
        leased = self.leased_by.pop(finished.trainer)
        self.display.ended(leased.run.number, self._publish(leased, finished))
        self.queue.release(leased)

    def _publish(self, leased: LeasedRun, finished: FinishedRun) -> str:
        """Write how a run ended; returns a line on it. Raises RestartNeeded if a GPU failed it."""
        if isinstance(finished.error, NotTrainedHere):  # known only once it was begun
            return self.queue.not_trained_here(leased.run, str(finished.error))
        line, error = publish_or_fail(finished, leased.run.folder, leased.lease)
        if error:
            raise_if_process_unusable(error, self.runs_dir)
        if self.options.tracking:
            self.options.tracking.finish(leased.run.folder)
        return line


def _may_be_a_bug(finished: FinishedRun) -> bool:
    return finished.error is not None and classify(finished.error) in MAY_BE_BUGS
