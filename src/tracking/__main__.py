"""Tells wandb of the run folders that are named on stdin; src.tracking.wandb_process starts it.

Answers every line on stdout: with an empty line, or with what went wrong.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import TextIO

from src.cli.arguments import Parser
from src.runs.run_folder import RunFolder
from src.tracking import wandb_run
from src.tracking.wandb_run import WandbRun

_NICE = 10
_LAST_SECONDS = 60.0  # after whoever started it is gone


class _WandbSender:
    """Tells wandb of runs until that fails: then offline, then not at all."""

    def __init__(self, mode: str, sweep: str, place: Path, watched: int, answers: TextIO) -> None:
        self.mode: str | None = mode
        self.sweep, self.place, self.watched, self.answers = sweep, place, watched, answers
        self.open: dict[str, WandbRun] = {}
        self.lost: set[str] = set()  # of which wandb was told a part

    def hear(self, path: str, *, over: bool) -> None:
        """A folder has something new, or its run is over."""
        problem = ""
        try:
            self._tell(path, over)
        except Exception as error:  # noqa: BLE001  whatever wandb may raise
            problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self.answer(problem)

    def close(self) -> None:
        """Runs that are not over go on elsewhere, or another time."""
        for path in list(self.open):
            self.hear(path, over=True)

    def answer(self, problem: str = "") -> None:
        """A sign of life."""
        print(problem, file=self.answers, flush=True)

    def _tell(self, path: str, over: bool) -> None:
        if self.mode is None or path in self.lost:
            return
        if path not in self.open:
            self.open[path] = self._begun(RunFolder(Path(path)))
        try:
            if over:
                self.open.pop(path).finish()
            else:
                self.open[path].tell()
        except Exception:
            self.lost.add(path)
            raise

    def _begun(self, folder: RunFolder) -> WandbRun:
        try:
            self._choose()
            self.place.joinpath("wandb").mkdir(parents=True, exist_ok=True)
            self._require_writable()
            return self._run(folder)
        except Exception as error:
            if self.mode != "online":
                self.mode = None
                raise
            self.mode = "offline"
            self.answer(f"{' '.join(str(error).split())}: noted offline")
            return self._begun(folder)

    def _choose(self) -> None:
        if self.mode == "auto":
            self.mode = "online" if wandb_run.has_key() else "offline"
        elif self.mode == "online" and not wandb_run.has_key():
            raise PermissionError("there is no key (`wandb login`, or WANDB_API_KEY)")

    def _require_writable(self) -> None:
        """Raise PermissionError if wandb would move to /tmp without a word."""
        folder = self.place / "wandb"
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} cannot be written")

    def _run(self, folder: RunFolder) -> WandbRun:
        assert self.mode
        return WandbRun(
            folder, mode=self.mode, sweep=self.sweep, place=self.place, watched=self.watched
        )


def main() -> None:
    """Tell wandb until stdin ends."""
    asked = _parser().parse(sys.argv[1:])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what wandb prints is no answer
    os.nice(_NICE)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    lines: SimpleQueue[str | None] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    teller = _WandbSender(asked.mode, asked.sweep, asked.dir, asked.watched, answers)
    while line := lines.get():
        told = json.loads(line)
        teller.hear(told["run"], over=told["over"])
    teller.close()


def _read(lines: "SimpleQueue[str | None]") -> None:
    """Take lines in a thread, so that the end is seen even while wandb hangs."""
    for line in sys.stdin:
        lines.put(line)
    lines.put(None)
    time.sleep(_LAST_SECONDS)
    os._exit(1)


def _parser() -> Parser:
    parser = Parser(prog="python -m src.tracking", description=__doc__)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--sweep", required=True)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--watched", type=int, required=True, help="process that trains")
    return parser


if __name__ == "__main__":
    main()
