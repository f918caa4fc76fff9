"""Processes by names that hold among all machines and all times."""

import os
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil

_CLOCK_TOLERANCE_SECONDS = 2.0  # a start time is told to the wall clock, which may be set


def identity(pid: int | None = None) -> dict[str, Any]:
    """Names this process, or another one here. Raises psutil.NoSuchProcess where there is none."""
    found = psutil.Process(pid)
    return {"machine": this_machine(), "pid": found.pid, "start": found.create_time()}


def is_running(process: Mapping[str, Any]) -> bool | None:
    """Whether a process is there; None where that is not to be seen from this machine."""
    if process.get("machine") != this_machine():
        return None
    try:
        found = psutil.Process(process["pid"])
        same = abs(found.create_time() - process["start"]) < _CLOCK_TOLERANCE_SECONDS
        return same and found.status() != psutil.STATUS_ZOMBIE  # ids are used again
    except psutil.NoSuchProcess:
        return False


@cache
def this_machine() -> str:
    """This machine since its boot, and, in a container, the process-id namespace that we are in."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    return " ".join(
        [
            socket.gethostname(),
            boot.read_text().strip() if boot.exists() else "",
            os.readlink(namespace) if namespace.exists() else "",
        ]
    ).strip()
