"""The tracking process as seen from training, which notifies it and never waits for it."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Self

from src.common import paths
from src.runs.run_folder import RunFolder
from src.tracking import MODES
from src.training.tracker import Row, Tracker

DISABLED = MODES[-1]

_PATIENCE_SECONDS = 10.0  # wait at the end for a process that does not answer
_STOPPED_SECONDS = 2.0  # the same after a signal
_MIN_SECONDS = 2.0  # least wait at the end
_MAX_SECONDS = 60.0  # longest wait at the end for a process that answers
_POLL_SECONDS = 0.02


class WandbProcess:
    """Mirrors runs in wandb. A context manager; the process starts with the first run."""

    def __init__(
        self,
        requested: str | None,
        runs_dir: Path,
        *,
        sweep: str,
        log: Callable[[str], object],
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Check that wandb is installed; start nothing yet.

        requested: one of MODES; None for WANDB_MODE, or else online with an API key and offline
        without one. sweep: groups the runs, together with their architecture. log: receives a
        line if something is not mirrored. stop: whether a signal has asked the process to stop.
        """
        mode = requested or os.environ.get("WANDB_MODE")
        self._mode = mode or "auto"
        self._runs_dir, self._sweep, self._log, self._stop = runs_dir, sweep, log, stop
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        self._threads: list[threading.Thread] = []
        self._seen = 0.0
        if self._mode != DISABLED and not importlib.util.find_spec("wandb"):
            if mode:
                log(f"wandb: not installed; {_LATER}")
            self._mode = DISABLED

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Let the process log the rest, as long as it makes progress."""
        if self._process is None:
            return
        self._lines.put(None)
        patience = _STOPPED_SECONDS if any(error) or self._stop() else _PATIENCE_SECONDS
        if not self._ends(self._process, patience):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._log(f"wandb: did not answer and was killed; {_LATER}")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_MIN_SECONDS)
        for thread in self._threads:
            thread.join(_MIN_SECONDS)

    def _ends(self, process: "subprocess.Popen[str]", patience: float) -> bool:
        """Wait until the process has ended. Returns False if it takes too long."""
        began = time.monotonic()
        while process.poll() is None:
            now = time.monotonic()
            silent = now - self._seen > patience and now - began > _MIN_SECONDS
            if silent or now - began > _MAX_SECONDS:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def run(self, folder: RunFolder) -> Tracker:
        """The tracker of a run that starts or continues."""
        if self._mode == DISABLED:
            return Tracker()
        if self._process is None:
            try:
                self._start()
            except (OSError, RuntimeError) as error:  # the system has no process or thread left
                self._log(f"wandb: {error}; {_LATER}")
                self._mode = DISABLED
                return Tracker()
        self._send(folder)
        return _RunTracker(lambda: self._send(folder))

    def finish(self, folder: RunFolder) -> None:
        """Log how the run of this folder ended."""
        if self._mode != DISABLED:
            self._send(folder, over=True)

    def _send(self, folder: RunFolder, *, over: bool = False) -> None:
        self._lines.put(json.dumps({"run": str(folder.path.resolve()), "over": over}) + "\n")

    def _start(self) -> None:
        place = Path(os.environ.get("WANDB_DIR") or self._runs_dir).resolve()
        arguments = ["--mode", self._mode, "--sweep", self._sweep, "--dir", str(place)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "src.tracking", *arguments, "--watched", str(os.getpid())],
            cwd=paths.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # signals of the terminal and of Slurm are for training alone
        )
        self._seen = time.monotonic()
        for work in (self._write, self._read):
            self._threads.append(threading.Thread(target=work, args=(self._process,), daemon=True))
            self._threads[-1].start()

    def _write(self, process: "subprocess.Popen[str]") -> None:
        """Write lines to the process, in a thread: writing blocks once the pipe is full."""
        assert process.stdin
        with suppress(OSError), process.stdin as stdin:
            while line := self._lines.get():
                stdin.write(line)
                stdin.flush()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        """Read the answers of the process, in a thread, and log what went wrong."""
        assert process.stdout
        with process.stdout as stdout:
            for line in stdout:
                self._seen = time.monotonic()
                if line.strip():
                    self._log(f"wandb: {line.strip()}; {_LATER}")


class _RunTracker(Tracker):
    """Reports every epoch."""

    def __init__(self, report: Callable[[], object]) -> None:
        self.report = report

    def epoch(self, rows: Sequence[Row]) -> None:
        self.report()


_LATER = "`python -m src.sweep sync` uploads it later"
