"""A search: an Optuna study whose trials are ordinary runs, shared by any number of workers."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from src.common import paths
from src.common.errors import Stopped
from src.data import Dataset
from src.run import Outcome, RunOptions, Tracking, run
from src.runs import leases
from src.runs.run_folder import RunFolder, State
from src.training.console import ProgressDisplay, SilentDisplay
from src.tune.search_space import SearchSpace
from src.tune.trial_pruner import PRUNERS, TrialPruner, lowest_loss, make_pruner, make_sampler

if TYPE_CHECKING:
    import optuna

_POLL_SECONDS = 1.0
_PATIENCE = 3  # trials in a row that break for another reason than a loss that diverged


@dataclass(frozen=True)
class _LeasedTrial:
    """A trial that is ours to train."""

    trial: "optuna.Trial"
    lease: leases.Lease
    pruner: TrialPruner


class TrialStudy:
    """The study of a space, kept in <runs>/searches: a log of it, and who works on which trial.

    The objective is the lowest validation loss of a run. What trial n is, given the trials before
    it, depends on n and the space's seed, so that no two workers draw the same, and a search that
    was interrupted goes on as if it had not been.
    """

    def __init__(
        self,
        space: SearchSpace,
        runs_dir: Path,
        *,
        pruner: str = PRUNERS[0],
        stop: Callable[[], bool] = lambda: False,
        display: Callable[[int], ProgressDisplay] = lambda total: SilentDisplay(),
        log: Callable[[str], object] = lambda line: None,
        tracking: Tracking | None = None,
    ) -> None:
        import optuna
        from optuna.storages import journal

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.runs_dir = space, runs_dir
        self.stop, self.display, self.log, self.tracking = stop, display, log, tracking
        self._datasets: dict[str, Dataset] = {}
        self.folder = paths.searches_dir(runs_dir) / space.name
        self.folder.mkdir(parents=True, exist_ok=True)
        journal_file = str(paths.search_log(self.folder))
        self._turns = journal.JournalFileOpenLock(str(self.folder / "turn"))
        self.study = optuna.create_study(
            storage=journal.JournalStorage(
                journal.JournalFileBackend(
                    journal_file, lock_obj=journal.JournalFileOpenLock(journal_file)
                )
            ),
            study_name=space.name,
            pruner=make_pruner(pruner),
            load_if_exists=True,
        )

    def trials(self, *states: str) -> list["optuna.trial.FrozenTrial"]:
        """All trials, or those in one of these states: COMPLETE, PRUNED, FAIL, RUNNING."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if not states or trial.state.name in states]

    def best(self) -> "optuna.trial.FrozenTrial | None":
        """The complete trial with the lowest validation loss, the first of equal ones."""
        complete = self.trials("COMPLETE")
        return min(complete, key=lambda trial: (trial.value, trial.number), default=None)

    def work(self, wanted: int) -> str | None:
        """Train trials until the study has `wanted`; None, or in a line why that was given up.

        A trial that a worker has left behind goes on, with its own settings, before a new one
        begins. Raises Stopped, with everything saved, once stop() is true, and UserError where
        the run of a trial cannot work.
        """
        broken = 0
        while held := self._next(wanted):
            try:
                outcome = self._train(held, wanted)
            finally:
                held.lease.end("over")
            failure = outcome.failure if outcome.state == State.FAILED else None
            broken = broken + 1 if failure and failure.get("retry", True) else 0
            if failure and broken == _PATIENCE:
                return f"{broken} trials in a row broke: {failure['kind']}: {failure['message']}"
        return None

    def _next(self, wanted: int) -> _LeasedTrial | None:
        """A trial to train. Returns None if all are finished, or others are at what is left."""
        if self.stop():
            raise Stopped
        if held := self._take(wanted, {}):
            return held
        running = [self._folder(trial.number) for trial in self.trials("RUNNING")]
        return self._take(wanted, leases.wait_for_stalled(running, self.stop)) if running else None

    def _take(self, wanted: int, dead: Mapping[Path, leases.Record]) -> _LeasedTrial | None:
        """Take over a trial that nobody is at, or ask for a new one. dead: attempts that are."""
        with self._turn():
            for trial in self.trials("RUNNING"):
                if held := self._take_over(trial.number, dead):
                    return held
            number = len(self.trials())
            if number >= wanted:
                return None
            self.study.sampler = make_sampler(self.space.base.seed, number)
            new = self.study.ask()
            lease = self._claim(new.number, dead)
            return _LeasedTrial(new, lease, TrialPruner(new, [])) if lease else None

    def _take_over(self, number: int, dead: Mapping[Path, leases.Record]) -> _LeasedTrial | None:
        """Take over a running trial. Returns None if its worker may still be training it."""
        import optuna

        lease = self._claim(number, dead)
        if lease is None:
            return None
        known = self.trials()[number]
        if known.state.is_finished():  # since we looked
            lease.end("over")
            return None
        self.study.sampler = make_sampler(self.space.base.seed, number)
        trial = optuna.Trial(self.study, known._trial_id)
        return _LeasedTrial(trial, lease, TrialPruner(trial, [*known.intermediate_values]))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One worker at a time: between counting trials and asking for one nobody else asks."""
        self._turns.acquire()
        try:
            yield
        finally:
            self._turns.release()

    def _folder(self, number: int) -> Path:
        return self.folder / "trials" / str(number)

    def _claim(self, number: int, dead: Mapping[Path, leases.Record]) -> leases.Lease | None:
        folder = self._folder(number)
        (folder / paths.ATTEMPTS).mkdir(parents=True, exist_ok=True)
        return leases.acquire(folder, known_dead=dead.get(folder))

    def _train(self, held: _LeasedTrial, wanted: int) -> Outcome:
        """Train the run of a trial, whoever else is at the same run, and tell the study."""
        config, number = self.space.suggest(held.trial), held.trial.number
        settings = ", ".join(f"{name} {_short(v)}" for name, v in held.trial.params.items())
        self.log(f"trial {number} ({number + 1} of {wanted}): {settings}")
        while True:
            [outcome] = run(
                [config],
                self.runs_dir,
                RunOptions(
                    slots=1,
                    display=self.display,
                    stop=self.stop,
                    pruner=held.pruner,
                    tracking=self.tracking,
                    datasets=self._datasets,
                ),
            )
            if outcome.state in (State.DONE, State.PRUNED, State.FAILED):
                break
            time.sleep(_POLL_SECONDS)
        self.log(f"trial {number}: {self._tell(held, outcome)}")
        return outcome

    def _tell(self, held: _LeasedTrial, outcome: Outcome) -> str:
        """Tell the study how a trial ended; a line about it."""
        from optuna.trial import TrialState

        rows = RunFolder(outcome.folder).history()
        if outcome.state == State.FAILED:
            self.study.tell(held.trial, state=TrialState.FAIL, skip_if_finished=True)
            failure = outcome.failure or {}
            return f"failed: {failure.get('kind')}: {failure.get('message')}"
        held.pruner.report(rows)
        loss = lowest_loss(rows)
        if outcome.state == State.PRUNED:
            self.study.tell(held.trial, state=TrialState.PRUNED, skip_if_finished=True)
            return f"pruned after epoch {rows[-1]['epoch']}, validation loss {loss:.4f}"
        self.study.tell(held.trial, loss, skip_if_finished=True)
        best = self.best()
        assert best
        return f"validation loss {loss:.4f}; the best is trial {best.number}, {best.value:.4f}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
