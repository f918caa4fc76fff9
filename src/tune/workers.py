"""Who works on a search: this process, other ones, or jobs of a cluster."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import progress
from src.errors import Stopped, UserError
from src.interrupt import StopRequest
from src.paths import shown
from src.tune.search import Search
from src.tune.space import Space

if TYPE_CHECKING:
    import submitit

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Order:
    """A search to work on, until it has so many trials."""

    space: Space
    runs_dir: Path
    trials: int
    pruner: str
    quiet: bool

    def search(self, stop: Callable[[], bool] = lambda: False) -> Search:
        """The search, opened or begun."""
        return Search(
            self.space,
            self.runs_dir,
            pruner=self.pruner,
            stop=stop,
            progress=lambda total: progress.show(total, self.quiet),
            say=lambda line: None if self.quiet else _say(line),
        )


@dataclass(frozen=True)
class Jobs:
    """Workers as jobs of an executor, local or slurm; minutes and GPUs are those of each."""

    executor: str
    workers: int
    minutes: int
    gpus: int
    partition: str | None

    def parameters(self) -> dict[str, Any]:
        """The same in the words of submitit.AutoExecutor."""
        asked = {"name": "search", "timeout_min": self.minutes, "gpus_per_node": self.gpus}
        return asked | ({"slurm_partition": self.partition} if self.partition else {})


def work(order: Order) -> str | None:
    """Work on a search in this process; None, or why it was given up."""
    # SIGUSR2 is what submitit has Slurm send before the time limit
    search = order.search(StopRequest().install(signal.SIGUSR2))
    done = len(search.trials("COMPLETE", "PRUNED", "FAIL"))
    if done and not order.quiet:
        _say(f"{search.space.name} goes on after {done} of {order.trials} trials")
    return search.work(order.trials)


def submit(order: Order, jobs: Jobs) -> list["submitit.Job[str | None]"]:
    """Start workers as jobs, whose logs lie in the search's folder. Raises UserError without Slurm.

    Ctrl-C reaches local workers from the terminal; the processes that watch them must outlive it.
    """
    import submitit

    if jobs.executor == "slurm" and not shutil.which("sbatch"):
        raise UserError("--executor 'slurm': there is no sbatch here; expected local")
    folder = order.search().folder / "jobs"  # the study is there before the workers meet
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # jobs unpickle what is in it: nobody else may put something there
    executor = submitit.AutoExecutor(folder, cluster=jobs.executor)
    executor.update_parameters(**jobs.parameters())
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with executor.batch():
            started = [executor.submit(work, order) for _ in range(jobs.workers)]
    finally:
        signal.signal(signal.SIGINT, before)
    for job in started:
        print(f"worker {job.job_id}: {shown(job.paths.stderr)}", file=sys.stderr, flush=True)
    return started


def wait(jobs: Sequence["submitit.Job[str | None]"]) -> str | None:
    """Wait for local workers; None, or how they went wrong. Raises Stopped when asked to stop.

    A worker that is asked too early, before it listens, is asked again.
    """
    stop = StopRequest().install()
    while not all(job.done() for job in jobs):
        for job in jobs:
            if stop() and not job.done():
                os.kill(int(job.job_id), signal.SIGTERM)
        time.sleep(_POLL_SECONDS)
    if stop():
        raise Stopped
    ends = {job.job_id: _end(job) for job in jobs}
    return "; ".join(f"worker {job}: {why}" for job, why in ends.items() if why) or None


def _end(job: "submitit.Job[str | None]") -> str | None:
    """What a worker that is done returned, or the last line of what broke it."""
    error = job.exception()
    if error is None:
        return job.result()
    lines = [line for line in str(error).splitlines() if "Error" in line or "Stopped" in line]
    return f"{lines[-1].strip() if lines else error} ({shown(job.paths.stderr)})"


def _say(line: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", file=sys.stderr, flush=True)
