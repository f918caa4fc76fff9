"""Who works on a search: this process, other ones, or jobs of a cluster."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from src.common import files
from src.common.errors import ExitStatus, UserError
from src.common.paths import shown
from src.common.signals import StopSignal
from src.sweep.launch import local_workers, sbatch, submission_record
from src.sweep.launch.sbatch import Resources
from src.tracking.wandb_process import WandbProcess
from src.training import console
from src.tune.search_space import SearchSpace
from src.tune.study import TrialStudy

_NAME = "search"


@dataclass(frozen=True)
class SearchJob:
    """A search to work on, until it has so many trials."""

    space: SearchSpace
    runs_dir: Path
    trials: int
    pruner: str
    wandb: str | None
    quiet: bool

    def log(self, line: str) -> None:
        """Tell how it goes, unless that is not wanted."""
        if not self.quiet:
            console.log_line(line)

    def tracking(self, stop: Callable[[], bool]) -> WandbProcess:
        """What tells wandb of its trials."""
        return WandbProcess(
            self.wandb, self.runs_dir, sweep=self.space.name, log=self.log, stop=stop
        )

    def search(
        self, stop: Callable[[], bool] = lambda: False, tracking: WandbProcess | None = None
    ) -> TrialStudy:
        """The search, opened or begun."""
        return TrialStudy(
            self.space,
            self.runs_dir,
            pruner=self.pruner,
            stop=stop,
            display=lambda total: console.make_display(total, self.quiet),
            log=self.log,
            tracking=tracking,
        )


def work(order: SearchJob) -> str | None:
    """Work on a search in this process; None, or why it was given up."""
    stop = StopSignal().install()
    with order.tracking(stop) as tracking:
        search = order.search(stop, tracking)
        done = len(search.trials("COMPLETE", "PRUNED", "FAIL"))
        if done:
            search.log(f"{search.space.name} continues after {done} of {order.trials} trials")
        return search.work(order.trials)


def prepare(order: SearchJob, workers: int, resources: Resources, words: Sequence[str]) -> Path:
    """Write the script of an array of workers into the search's folder, with a copy of the code.

    words: of the command that each of them is, after `python -m src.tune`.
    """
    jobs = order.search().folder / "jobs"  # the study is there before the workers meet
    folder = _next(jobs)
    submission_record.prepare(folder)
    text = sbatch.script(array(workers), resources, folder, Path.cwd(), ["src.tune", *words])
    files.write_text(folder / f"{_NAME}.sh", text)
    return folder / f"{_NAME}.sh"


def submit(script: Path) -> str:
    """Submit the workers of a script to Slurm; their job's id. Raises UserError without Slurm."""
    if not shutil.which("sbatch"):
        raise UserError("--executor 'slurm': there is no sbatch here; expected local")
    return sbatch.sbatch(script)


def run_here(script: Path, workers: int) -> str | None:
    """Run the workers of a script on this machine; None, or how they went wrong.

    Raises Stopped, once they have, when asked to stop.
    """
    stop = StopSignal().install()
    log = sbatch.log(script.parent, array(workers))
    started = local_workers.start(script, workers, log)
    console.log_line(f"{workers} workers: {shown(script.parent)}/logs")
    if local_workers.wait(started, stop) == ExitStatus.DONE:
        return None
    return f"a worker failed; see {shown(script.parent)}/logs"


def array(workers: int) -> sbatch.Array:
    """The workers of a search, as tasks."""
    return sbatch.Array(_NAME, 1, workers)


def _next(jobs: Path) -> Path:
    """A new folder in `jobs`, under the next number."""
    jobs.mkdir(exist_ok=True)
    numbers = [int(path.name) for path in jobs.iterdir() if path.name.isdecimal()]
    for number in count(max(numbers, default=0) + 1):
        with suppress(FileExistsError):
            (jobs / str(number)).mkdir()
            break
    return jobs / str(number)
