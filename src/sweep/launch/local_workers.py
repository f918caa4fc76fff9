"""Workers as processes of this machine, each running the job script of a submission."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from src.common.errors import ExitStatus, Stopped
from src.common.signals import StopSignal

_POLL_SECONDS = 0.2


def start(script: Path, workers: int, log: str) -> list["subprocess.Popen[bytes]"]:
    """Start `workers` processes of a script, in sessions of their own.

    log: path of their output, in which %A_%a stands for the process, as in `sbatch.log`. A Ctrl-C
    of this terminal does not reach them: `wait` forwards it.
    """
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    started = []
    for number in range(workers):
        path = log.replace("%A_%a", f"{os.getpid()}_{number}")
        with Path(path).open("ab") as file:
            started.append(
                subprocess.Popen(
                    ["bash", script],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
            )
    return started


def wait(workers: Sequence["subprocess.Popen[bytes]"], stop: StopSignal) -> ExitStatus:
    """Wait for workers; the status is DONE if all succeeded. Raises Stopped once stop() is true.

    Workers then get SIGTERM until they end: one that has just started may not handle it yet.
    """
    while any(worker.poll() is None for worker in workers):
        for worker in workers:
            if stop() and worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        time.sleep(_POLL_SECONDS)
    if stop():
        raise Stopped
    failed = any(worker.returncode for worker in workers)
    return ExitStatus.SOME_RUNS_FAILED if failed else ExitStatus.DONE
