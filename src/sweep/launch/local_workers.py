"""Workers as processes of this machine, each the script of a submission under plain bash."""

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
    """Start `workers` processes of a script.

    log: where they write, in which the process is told by %A_%a as in `sbatch.log`. They outlive
    a Ctrl-C of this terminal, which `wait` passes on once.
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
    """Wait for workers; whether all did all. Raises Stopped once they have, if asked to stop.

    One that is asked too early, before it listens, is asked again.
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
