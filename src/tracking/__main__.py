"""The tracking process: logs the run folders named on stdin to wandb.

src.tracking.wandb_process starts it. It answers every line of stdin with a line on stdout, which
is empty or says what went wrong.
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
from src.common.errors import class_and_message, one_line
from src.runs.run_folder import RunFolder
from src.tracking import wandb_run
from src.tracking.wandb_run import WandbRun

_NICE = 10
_LAST_SECONDS = 60.0  # to finish after the training process is gone


class _WandbSender:
    """Logs runs to wandb; after a failure offline, and after another not at all."""

    def __init__(self, mode: str, sweep: str, place: Path, watched: int, answers: TextIO) -> None:
        self.mode: str | None = mode
        self.sweep, self.place, self.watched, self.answers = sweep, place, watched, answers
        self.open: dict[str, WandbRun] = {}
        self.lost: set[str] = set()  # runs of which only a part was logged

    def receive(self, path: str, *, over: bool) -> None:
        """Log what is new in a run folder, and finish it if its run is over."""
        problem = ""
        try:
            self._send(path, over)
        except Exception as error:  # noqa: BLE001  whatever wandb may raise
            problem = class_and_message(error)
        self.answer(problem)

    def close(self) -> None:
        """Finish all open runs; those that are not over may be continued later."""
        for path in list(self.open):
            self.receive(path, over=True)

    def answer(self, problem: str = "") -> None:
        """Answer one line, also as a sign of life."""
        print(problem, file=self.answers, flush=True)

    def _send(self, path: str, over: bool) -> None:
        if self.mode is None or path in self.lost:
            return
        if path not in self.open:
            self.open[path] = self._begun(RunFolder(Path(path)))
        try:
            if over:
                self.open.pop(path).finish()
            else:
                self.open[path].log_new_epochs()
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
            self.answer(f"{one_line(error)}: noted offline")
            return self._begun(folder)

    def _choose(self) -> None:
        if self.mode == "auto":
            self.mode = "online" if wandb_run.has_key() else "offline"
        elif self.mode == "online" and not wandb_run.has_key():
            raise PermissionError("there is no key (`wandb login`, or WANDB_API_KEY)")

    def _require_writable(self) -> None:
        """Raise PermissionError if wandb would silently write to /tmp instead."""
        folder = self.place / "wandb"
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} cannot be written")

    def _run(self, folder: RunFolder) -> WandbRun:
        assert self.mode
        return WandbRun(
            folder, mode=self.mode, sweep=self.sweep, place=self.place, watched=self.watched
        )


def main() -> None:
    """Log runs until stdin ends."""
    asked = _parser().parse(sys.argv[1:])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what wandb prints must not reach stdout, which carries the answers
    os.nice(_NICE)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    lines: SimpleQueue[str | None] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    sender = _WandbSender(asked.mode, asked.sweep, asked.dir, asked.watched, answers)
    while line := lines.get():
        message = json.loads(line)
        sender.receive(message["run"], over=message["over"])
    sender.close()


def _read(lines: "SimpleQueue[str | None]") -> None:
    """Read lines in a thread, so that the end of stdin is noticed even if wandb hangs."""
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
