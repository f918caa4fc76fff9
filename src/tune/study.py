"""A search: an Optuna study whose trials are ordinary runs, shared by any number of workers."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from src.common import paths
from src.common.errors import NotTrainedHere, Stopped
from src.config import RunConfig
from src.data import LoadedData
from src.run import Outcome, RunOptions, Tracking, run
from src.runs import leases
from src.runs.run_folder import RunFolder, State
from src.training.console import ProgressDisplay, SilentDisplay
from src.tune.search_space import SearchSpace
from src.tune.trial_pruner import PRUNERS, TrialPruner, lowest_loss, make_pruner, make_sampler

if TYPE_CHECKING:
    import optuna

_POLL_SECONDS = 1.0
_PATIENCE = 3  # consecutive trials that fail, other than by diverging, before giving up


@dataclass(frozen=True)
class _LeasedTrial:
    """A trial that this process has leased."""

    trial: "optuna.Trial"
    lease: leases.Lease
    pruner: TrialPruner


class TrialStudy:
    """The study of a search space, kept in <runs>/searches: its journal, and leases of its trials.

    The objective is the lowest validation loss of a run, or its mean over the seeds. The values of
    trial n depend on n, the seed of the space and the trials before it: no two workers draw the
    same trial, and an interrupted search continues as if it had not been interrupted.
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
        self._datasets: LoadedData = {}
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
        """The complete trial with the lowest validation loss; the first if several are equal."""
        complete = self.trials("COMPLETE")
        return min(complete, key=lambda trial: (trial.value, trial.number), default=None)

    def work(self, trials_wanted: int) -> str | None:
        """Train trials until the study has `trials_wanted`. Returns why it was given up, or None.

        A trial that another worker has abandoned is continued before a new one starts. One that
        cannot be trained here is left to another worker, and this one ends. Raises Stopped, with
        everything saved, once stop() is true, and UserError if the run of a trial cannot work.
        """
        broken = 0
        while leased := self._next(trials_wanted):
            try:
                outcome = self._train(leased, trials_wanted)
            except NotTrainedHere as why:
                return str(why)
            finally:
                leased.lease.end("over")
            failure = outcome.failure if outcome.state == State.FAILED else None
            broken = broken + 1 if failure and failure.get("retry", True) else 0
            if failure and broken == _PATIENCE:
                return f"{broken} trials in a row broke: {failure['kind']}: {failure['message']}"
        return None

    def _next(self, trials_wanted: int) -> _LeasedTrial | None:
        """The next trial to train. Returns None if all are finished or leased by others."""
        if self.stop():
            raise Stopped
        if leased := self._take(trials_wanted, {}):
            return leased
        running = [self._folder(trial.number) for trial in self.trials("RUNNING")]
        return (
            self._take(trials_wanted, leases.wait_for_stalled(running, self.stop))
            if running
            else None
        )

    def _take(
        self, trials_wanted: int, dead: Mapping[Path, leases.AttemptRecord]
    ) -> _LeasedTrial | None:
        """Take over a trial without a worker, or ask for a new one. dead: stalled attempts."""
        with self._turn():
            for trial in self.trials("RUNNING"):
                if leased := self._take_over(trial.number, dead):
                    return leased
            number = len(self.trials())
            if number >= trials_wanted:
                return None
            self.study.sampler = make_sampler(self.space.base.seed, number)
            new = self.study.ask()
            lease = self._claim(new.number, dead)
            return _LeasedTrial(new, lease, TrialPruner(new, [])) if lease else None

    def _take_over(
        self, number: int, dead: Mapping[Path, leases.AttemptRecord]
    ) -> _LeasedTrial | None:
        """Take over a running trial. Returns None if its worker may still be training it."""
        import optuna

        lease = self._claim(number, dead)
        if lease is None:
            return None
        known = self.trials()[number]
        if known.state.is_finished():  # its worker finished it since it was listed
            lease.end("over")
            return None
        self.study.sampler = make_sampler(self.space.base.seed, number)
        trial = optuna.Trial(self.study, known._trial_id)
        return _LeasedTrial(trial, lease, TrialPruner(trial, [*known.intermediate_values]))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Lock: no other worker asks for a trial between counting and asking."""
        self._turns.acquire()
        try:
            yield
        finally:
            self._turns.release()

    def _folder(self, number: int) -> Path:
        return self.folder / "trials" / str(number)

    def _claim(self, number: int, dead: Mapping[Path, leases.AttemptRecord]) -> leases.Lease | None:
        folder = self._folder(number)
        (folder / paths.ATTEMPTS).mkdir(parents=True, exist_ok=True)
        return leases.acquire(folder, known_dead=dead.get(folder))

    def _train(self, leased: _LeasedTrial, trials_wanted: int) -> Outcome:
        """Train the runs of a trial, one for each seed, and report it.

        The first seed decides whether the trial is pruned; further ones are trained to their end.
        """
        config, number = self.space.suggest(leased.trial), leased.trial.number
        settings = ", ".join(f"{name} {_short(v)}" for name, v in leased.trial.params.items())
        self.log(f"trial {number} ({number + 1} of {trials_wanted}): {settings}")
        outcomes = [self._run(config, leased.pruner)]
        for further in self.space.replicates(config):
            if outcomes[-1].state == State.DONE:
                outcomes.append(self._run(further, None))
        self.log(f"trial {number}: {self._report(leased, outcomes)}")
        return outcomes[-1]

    def _run(self, config: RunConfig, pruner: TrialPruner | None) -> Outcome:
        """Train a run, or wait for another worker of the same run. Raises NotTrainedHere."""
        while True:
            [outcome] = run(
                [config],
                self.runs_dir,
                RunOptions(
                    slots=1,
                    display=self.display,
                    stop=self.stop,
                    pruner=pruner,
                    tracking=self.tracking,
                    datasets=self._datasets,
                ),
            )
            if outcome.state in (State.DONE, State.PRUNED, State.FAILED):
                return outcome
            if why := self._why_not_here(outcome):
                raise NotTrainedHere(why)
            time.sleep(_POLL_SECONDS)

    def _why_not_here(self, outcome: Outcome) -> str | None:
        """Why this process will never train a run, in one line. None if it may."""
        failure = outcome.failure
        if failure is None or outcome.state == State.RUNNING:  # then it is of the attempt before
            return None
        return f"{outcome.config.title}: {failure['kind']}: {failure['message']}"

    def _report(self, leased: _LeasedTrial, outcomes: Sequence[Outcome]) -> str:
        """Report the end of a trial to the study. Returns a line about it."""
        from optuna.trial import TrialState

        histories = [RunFolder(outcome.folder).history() for outcome in outcomes]
        last = outcomes[-1]
        if last.state == State.FAILED:
            self.study.tell(leased.trial, state=TrialState.FAIL, skip_if_finished=True)
            failure = last.failure or {}
            return f"failed: {failure.get('kind')}: {failure.get('message')}"
        leased.pruner.report(histories[0])
        loss = fmean(lowest_loss(rows) for rows in histories)
        if last.state == State.PRUNED:
            self.study.tell(leased.trial, state=TrialState.PRUNED, skip_if_finished=True)
            return f"pruned after epoch {histories[0][-1]['epoch']}, validation loss {loss:.4f}"
        self.study.tell(leased.trial, loss, skip_if_finished=True)
        best = self.best()
        assert best
        return f"validation loss {loss:.4f}; the best is trial {best.number}, {best.value:.4f}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
