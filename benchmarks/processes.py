"""Runs in parallel processes on one device, with NVIDIA MPS if available."""

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

from benchmarks.measure import Interval
from src.common.paths import ROOT

_CONTROL = "nvidia-cuda-mps-control"
_TRY_SECONDS = 60


@dataclass(frozen=True)
class ParallelRuns:
    """Intervals and memory of processes that trained at the same time."""

    intervals: list[Interval]
    allocated: int
    in_use: int | None
    """Memory in use on the whole GPU in bytes, while all processes trained."""


@contextmanager
def mps(device: torch.device) -> Iterator[dict[str, str] | None]:
    """Start an MPS daemon and yield its environment variables, or None if there is no MPS."""
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
    """Return whether a process can use the GPU through the daemon."""
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
) -> ParallelRuns:
    """Train in `count` processes at once; measuring starts when all are warmed up.

    words: arguments of the probe. limit: seconds after which the processes are killed.
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
        _read_from_all(children, errors)
        _write_to_all(children)
        _read_from_all(children, errors)
        in_use = gpu_memory_in_use(device)
        _write_to_all(children)
        measured = [json.loads(_read_line(child, errors)) for child in children]
    intervals = [Interval(m["images"], m["seconds"], 0) for m in measured]
    return ParallelRuns(intervals, sum(m["memory"] for m in measured), in_use)


def gpu_memory_in_use(device: torch.device) -> int | None:
    """Return the memory in use on the GPU by all processes, in bytes."""
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


def _read_from_all(children: list["subprocess.Popen[str]"], errors: IO[str]) -> None:
    for child in children:
        _read_line(child, errors)


def _read_line(child: "subprocess.Popen[str]", errors: IO[str]) -> str:
    """Read the next line of a child process; raise if the process has ended."""
    assert child.stdout
    line = child.stdout.readline()
    if line:
        return line
    errors.seek(0)
    stderr = errors.read().strip()
    if "out of memory" in stderr.lower():
        raise torch.OutOfMemoryError
    raise RuntimeError(f"a process ended: {stderr.splitlines()[-1] if stderr else 'out of time'}")


def _write_to_all(children: list["subprocess.Popen[str]"]) -> None:
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
