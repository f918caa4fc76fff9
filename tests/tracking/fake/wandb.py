"""Fake wandb module that fails or hangs as the variable FAKE_WANDB says.

Its calls are recorded in the file FAKE_WANDB_LOG, one JSON object per line.
"""

import json
import os
import time
from typing import Any

_LOG = os.environ.get("FAKE_WANDB_LOG", os.devnull)


def _misbehave_in(place: str) -> None:
    behaviour = os.environ.get("FAKE_WANDB", "")
    if behaviour == f"absent in {place}":
        raise ModuleNotFoundError("No module named 'wandb'", name="wandb")
    if behaviour == f"raise in {place}":
        raise RuntimeError(f"out of order:\n{place}")
    if behaviour == f"hang in {place}":
        time.sleep(3600)
    limit, _, where = behaviour.partition(" times raise in ")
    if where == place and len(_recorded(place)) <= int(limit):
        raise RuntimeError("HTTP 429: rate limit exceeded")


def _record(what: str, run: str, **more: Any) -> None:
    with open(_LOG, "a") as file:
        calls = {"what": what, "run": run, "time": time.time(), **more}
        file.write(json.dumps(calls) + "\n")


def _recorded(what: str, run: str | None = None) -> list[dict[str, Any]]:
    try:
        with open(_LOG) as file:
            calls = [json.loads(line) for line in file]
    except FileNotFoundError:
        return []
    return [call for call in calls if call["what"] == what and run in (None, call["run"])]


_misbehave_in("import")


class Settings:
    def __init__(self, **settings: Any) -> None:
        self.settings = settings


class _Run:
    url = "https://wandb.example/run"

    def __init__(self, run: str) -> None:
        self.id = run
        self.starting_step = max((call["step"] + 1 for call in _recorded("log", run)), default=0)
        self.summary: dict[str, Any] = {}

    def log(self, row: dict[str, Any], step: int) -> None:
        _misbehave_in("log")
        _record("log", self.id, step=step, row=row)

    def mark_preempting(self) -> None:
        _record("preempting", self.id)

    def finish(self, exit_code: int = 0) -> None:
        _misbehave_in("finish")
        _record("finish", self.id, exit_code=exit_code, summary=self.summary)


def login(prompt: bool, verify: bool) -> bool:
    return "WANDB_API_KEY" in os.environ


def init(**settings: Any) -> _Run:
    arguments = {name: value for name, value in settings.items() if name != "settings"}
    _record("init", settings["id"], **arguments)
    _misbehave_in("init")
    return _Run(settings["id"])
