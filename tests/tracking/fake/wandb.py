"""Stands in for wandb where a test says so, and misbehaves as FAKE_WANDB says.

What it is told goes to the file FAKE_WANDB_LOG, a JSON object a line.
"""

import json
import os
import time
from typing import Any

_LOG = os.environ.get("FAKE_WANDB_LOG", os.devnull)


def _at(place: str) -> None:
    how = os.environ.get("FAKE_WANDB", "")
    if how == f"absent in {place}":
        raise ModuleNotFoundError("No module named 'wandb'", name="wandb")
    if how == f"raise in {place}":
        raise RuntimeError(f"out of order:\n{place}")
    if how == f"hang in {place}":
        time.sleep(3600)
    limit, _, where = how.partition(" times raise in ")
    if where == place and len(_told(place)) <= int(limit):
        raise RuntimeError("HTTP 429: rate limit exceeded")


def _tell(what: str, run: str, **more: Any) -> None:
    with open(_LOG, "a") as file:
        told = {"what": what, "run": run, "time": time.time(), **more}
        file.write(json.dumps(told) + "\n")


def _told(what: str, run: str | None = None) -> list[dict[str, Any]]:
    try:
        with open(_LOG) as file:
            told = [json.loads(line) for line in file]
    except FileNotFoundError:
        return []
    return [one for one in told if one["what"] == what and run in (None, one["run"])]


_at("import")


class Settings:
    def __init__(self, **settings: Any) -> None:
        self.settings = settings


class _Run:
    url = "https://wandb.example/run"

    def __init__(self, run: str) -> None:
        self.id = run
        self.starting_step = max((one["step"] + 1 for one in _told("log", run)), default=0)
        self.summary: dict[str, Any] = {}

    def log(self, row: dict[str, Any], step: int) -> None:
        _at("log")
        _tell("log", self.id, step=step, row=row)

    def mark_preempting(self) -> None:
        _tell("preempting", self.id)

    def finish(self, exit_code: int = 0) -> None:
        _at("finish")
        _tell("finish", self.id, exit_code=exit_code, summary=self.summary)


def login(prompt: bool, verify: bool) -> bool:
    return "WANDB_API_KEY" in os.environ


def init(**settings: Any) -> _Run:
    kept = {name: value for name, value in settings.items() if name != "settings"}
    _tell("init", settings["id"], **kept)
    _at("init")
    return _Run(settings["id"])
