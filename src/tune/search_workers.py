"""Workers of a search: this process, local processes, or Slurm jobs."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from src.common import files
from src.common.errors import ExitStatus, UserError
from src.common.gpus import ANY_GPU, visible_gpus
from src.common.paths import shown
from src.common.signals import StopSignal
from src.slurm import client, submission
from src.sweep.launch import local_workers, sbatch, submission_record
from src.sweep.launch.sbatch import Resources
from src.tracking.wandb_process import WandbProcess
from src.training import console
from src.tune.search_space import SearchSpace
from src.tune.study import TrialStudy

_NAME = "search"


@dataclass(frozen=True)
class SearchJob:
    """A search, and how many trials it should have."""

    space: SearchSpace
    runs_dir: Path
    trials: int
    pruner: str
    wandb: str | None
    quiet: bool

    def log(self, line: str) -> None:
        """Log a line, unless quiet."""
        if not self.quiet:
            console.log_line(line)

    def tracking(self, stop: Callable[[], bool]) -> WandbProcess:
        """The process that mirrors its trials in wandb."""
        return WandbProcess(
            self.wandb, self.runs_dir, sweep=self.space.name, log=self.log, stop=stop
        )

    def search(
        self, stop: Callable[[], bool] = lambda: False, tracking: WandbProcess | None = None
    ) -> TrialStudy:
        """Open the study, or create it."""
        return TrialStudy(
            self.space,
            self.runs_dir,
            pruner=self.pruner,
            stop=stop,
            display=lambda total: console.make_display(total, self.quiet),
            log=self.log,
            tracking=tracking,
        )


def work(job: SearchJob) -> str | None:
    """Work on a search in this process. Returns why it was given up, or None."""
    stop = StopSignal().install()
    with job.tracking(stop) as tracking:
        search = job.search(stop, tracking)
        done = len(search.trials("COMPLETE", "PRUNED", "FAIL"))
        if done:
            search.log(f"{search.space.name} continues after {done} of {job.trials} trials")
        return search.work(job.trials)


def prepare(job: SearchJob, workers: int, resources: Resources, arguments: Sequence[str]) -> Path:
    """Write the script of an array of workers into the search's folder, with a copy of the code.

    arguments: those of each worker, after `python -m src.tune`.
    """
    jobs = job.search().folder / "jobs"  # create the study before the workers race to do it
    folder = _next(jobs)
    submission_record.prepare(folder, job.space.models())
    text = sbatch.script(array(workers), resources, folder, Path.cwd(), ["src.tune", *arguments])
    files.write_text(folder / f"{_NAME}.sh", text)
    return folder / f"{_NAME}.sh"


def submit(script: Path) -> str:
    """Submit the workers of a script to Slurm. Returns the job id. Raises UserError."""
    if not client.has_sbatch():
        raise UserError("--executor 'slurm': there is no sbatch here; expected local")
    return submission.submit(script)


def run_here(script: Path, workers: int, device: str) -> str | None:
    """Run the workers of a script on this machine. Returns what went wrong, or None.

    Raises Stopped, once they have, when asked to stop.
    """
    stop = StopSignal().install()
    log = sbatch.log(script.parent, array(workers))
    gpus = visible_gpus() if device in ANY_GPU else []
    given = local_workers.distribute_gpus(gpus, workers)
    started = local_workers.start(script, workers, log, given)
    console.log_line(f"{workers} workers: {shown(script.parent)}/logs")
    if local_workers.wait(started, stop) == ExitStatus.DONE:
        return None
    return "; ".join(local_workers.failures(started, log))


def array(workers: int) -> sbatch.JobArray:
    """The workers of a search as a job array."""
    return sbatch.JobArray(_NAME, 1, workers)


def _next(jobs: Path) -> Path:
    """Create a folder in `jobs` with the next number."""
    jobs.mkdir(exist_ok=True)
    numbers = [int(path.name) for path in jobs.iterdir() if path.name.isdecimal()]
    for number in count(max(numbers, default=0) + 1):
        with suppress(FileExistsError):
            (jobs / str(number)).mkdir()
            break
    return jobs / str(number)
