"""Workers as processes of this machine, each with a GPU of its own if there are GPUs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from src.common.errors import ExitStatus, Stopped
from src.common.gpus import VISIBLE
from src.common.paths import shown
from src.common.signals import StopSignal
from src.faults.job_restarts import WORKER, restart_of_workers

_POLL_SECONDS = 0.2

Process = subprocess.Popen[bytes]


def start(script: Path, workers: int, log: str, gpus: Sequence[str] = ()) -> list[Process]:
    """Start `workers` processes of a job script, in sessions of their own.

    log: path of their output, in which %A_%a stands for the process, as in `sbatch.log`. A Ctrl-C
    of this terminal does not reach them: `wait` forwards it. gpus: given out in turn.
    """
    started = []
    for number in range(workers):
        with _log_file(log, number).open("ab") as file:
            started.append(
                subprocess.Popen(
                    ["bash", script],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=_environment(number, workers, gpus),
                    start_new_session=True,
                )
            )
    return started


def failures(workers: Sequence[Process], log: str) -> list[str]:
    """A line for each of the workers that `start` returned that has failed, with its log."""
    kept = (ExitStatus.DONE, ExitStatus.STOPPED, None)
    return [
        f"worker {number} {_ending(worker.returncode)}: {shown(_log_file(log, number))}"
        for number, worker in enumerate(workers)
        if worker.returncode not in kept
    ]


def _log_file(log: str, number: int) -> Path:
    return Path(log.replace("%A_%a", f"{os.getpid()}_{number}"))


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was killed by {signal.Signals(-status).name}"


def distribute_gpus(
    gpus: Sequence[str], workers: int, in_use: Mapping[str, int] | None = None
) -> list[str]:
    """A GPU for each of `workers`, each time one with the fewest workers. Empty without GPUs.

    in_use: how many earlier workers each GPU has.
    """
    counts = {gpu: (in_use or {}).get(gpu, 0) for gpu in gpus}
    given = []
    for _ in range(workers if counts else 0):
        given.append(min(counts, key=lambda gpu: counts[gpu]))
        counts[given[-1]] += 1
    return given


def run_one_per_gpu(
    arguments: Sequence[str], gpus: Sequence[str], runs_dir: Path, stop: StopSignal
) -> ExitStatus:
    """Run `python -m WORDS` once for each GPU of this Slurm job, and wait for all of them.

    Signals are forwarded, and the job is requeued by this process alone: raises Stopped if the
    workers were stopped, with what their restarts have achieved.
    """
    started = []
    for number in range(len(gpus)):
        environment = {**_environment(number, len(gpus), gpus), WORKER: str(number)}
        environment["OMP_NUM_THREADS"] = _share_of_threads(len(gpus))
        environment.pop("REQUEUE_ON_STOP", None)
        command = [sys.executable, "-u", "-m", *arguments]
        started.append(subprocess.Popen(command, env=environment, start_new_session=True))
        print(f"worker {number} on GPU {gpus[number]}: process {started[-1].pid}", file=sys.stderr)
    try:
        return wait(started, stop)
    except Stopped as stopped:
        stopped.restart = restart_of_workers(runs_dir, len(gpus))
        raise


def wait(workers: Sequence[Process], stop: StopSignal) -> ExitStatus:
    """Wait for workers. DONE if none has failed: what one has left, another has finished.

    Raises Stopped if the last one was stopped, whose runs nobody has finished, or once stop() is
    true. Workers then get SIGTERM until they end: one that has just started may not handle it yet.
    """
    running, last = list(workers), set[int]()
    while running:
        ended = {worker.returncode for worker in running if worker.poll() is not None}
        running = [worker for worker in running if worker.returncode is None]
        last = ended or last
        for worker in running:
            if stop():
                worker.send_signal(signal.SIGTERM)
        if running:
            time.sleep(_POLL_SECONDS)
    if stop() or ExitStatus.STOPPED in last:
        raise Stopped
    failed = {worker.returncode for worker in workers} - {ExitStatus.DONE, ExitStatus.STOPPED}
    if failed == {ExitStatus.BAD_INPUT}:
        return ExitStatus.BAD_INPUT
    return ExitStatus.SOME_RUNS_FAILED if failed else ExitStatus.DONE


def _environment(number: int, workers: int, gpus: Sequence[str]) -> Mapping[str, str]:
    """The environment of worker `number`, from 0: its share of the CPU cores, and its GPU."""
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    gpu = {VISIBLE: gpus[number]} if gpus else {}
    return {"OMP_NUM_THREADS": str(threads), **os.environ, **gpu}


def _share_of_threads(workers: int) -> str:
    """Threads for one of `workers` in a Slurm job: its script sets those of the whole job."""
    of_job = os.environ.get("SLURM_CPUS_PER_TASK", "")
    cores = int(of_job) if of_job.isdecimal() else len(os.sched_getaffinity(0))
    share = max(1, cores // workers)
    given = os.environ.get("OMP_NUM_THREADS", "")
    return str(min(share, int(given)) if given.isdecimal() else share)
