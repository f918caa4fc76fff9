"""Runs side by side, each alone in a process of its own, with MPS where the machine has it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from benchmarks.measure import Spell
from src.common.paths import ROOT

_CONTROL = "nvidia-cuda-mps-control"
_TRY_SECONDS = 60


@dataclass(frozen=True)
class Together:
    """The spells of processes that trained at the same time, and what they took."""

    spells: list[Spell]
    allocated: int
    in_use: int | None
    """Bytes of the whole GPU, while all were training."""


@contextmanager
def mps(device: torch.device) -> Iterator[dict[str, str] | None]:
    """A daemon of our own that lets processes share the GPU: its environment; None without one."""
    if device.type != "cuda" or not shutil.which(_CONTROL):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        names = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
        environment = {name: str(Path(folder) / name.lower()) for name in names}
        for path in environment.values():
            Path(path).mkdir()
        settings = {**os.environ, **environment}
        try:
            started = subprocess.run([_CONTROL, "-d"], env=settings, timeout=_TRY_SECONDS)
            works = started.returncode == 0 and _works(settings)
        except (OSError, subprocess.TimeoutExpired):
            works = False
        try:
            yield environment if works else None
        finally:
            _quit(settings)


def _works(environment: Mapping[str, str]) -> bool:
    """Whether a process can use the GPU by way of the daemon."""
    code = "import torch; torch.zeros(1, device='cuda').item()"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, timeout=_TRY_SECONDS, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def _quit(environment: Mapping[str, str]) -> None:
    try:
        subprocess.run(
            [_CONTROL], input=b"quit\n", env=environment, timeout=30, stdout=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{_CONTROL} did not quit: {error}", file=sys.stderr)


def train_together(
    count: int,
    words: list[str],
    device: torch.device,
    environment: Mapping[str, str] | None,
    limit: float,
) -> Together:
    """Train in `count` processes at once, all of them warm before any is measured.

    words: arguments of the probe. limit: seconds after which they are ended.
    """
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile("w+"))
        children = [
            stack.enter_context(_child([*words, "--seed", str(seed)], errors, environment))
            for seed in range(count)
        ]
        watchdog = threading.Timer(limit, _kill, [children])
        stack.callback(watchdog.cancel)
        watchdog.start()
        _hear_all(children, errors)
        _tell_all(children)
        _hear_all(children, errors)
        in_use = gpu_memory_in_use(device)
        _tell_all(children)
        measured = [json.loads(_heard(child, errors)) for child in children]
    spells = [Spell(m["images"], m["seconds"], 0) for m in measured]
    return Together(spells, sum(m["memory"] for m in measured), in_use)


def gpu_memory_in_use(device: torch.device) -> int | None:
    """Bytes of the GPU that are taken, by whichever process."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return total - free


@contextmanager
def _child(
    words: list[str], errors: IO[str], environment: Mapping[str, str] | None
) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.probe", "train", *words],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def _kill(children: list["subprocess.Popen[str]"]) -> None:
    for child in children:
        child.kill()


def _hear_all(children: list["subprocess.Popen[str]"], errors: IO[str]) -> None:
    for child in children:
        _heard(child, errors)


def _heard(child: "subprocess.Popen[str]", errors: IO[str]) -> str:
    """The next line of a child. Raises where it ended instead."""
    assert child.stdout
    line = child.stdout.readline()
    if line:
        return line
    errors.seek(0)
    said = errors.read().strip()
    if "out of memory" in said.lower():
        raise torch.OutOfMemoryError
    raise RuntimeError(f"a process ended: {said.splitlines()[-1] if said else 'out of time'}")


def _tell_all(children: list["subprocess.Popen[str]"]) -> None:
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
