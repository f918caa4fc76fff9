"""Identify processes across machines and reboots."""

import os
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_CLOCK_TOLERANCE_SECONDS = 2.0  # start times are by the wall clock, which may be adjusted


def identity(pid: int | None = None) -> dict[str, Any]:
    """The identity of this process, or of another one on this machine.

    Raises psutil.NoSuchProcess if there is none.
    """
    import psutil  # 40 ms, which a command that only prints its help can do without

    process = psutil.Process(pid)
    return {"machine": this_machine(), "pid": process.pid, "start": process.create_time()}


def is_running(process: Mapping[str, Any]) -> bool | None:
    """Whether a process is running. Returns None if it is on another machine."""
    if process.get("machine") != this_machine():
        return None
    import psutil

    try:
        running = psutil.Process(process["pid"])
        same = abs(running.create_time() - process["start"]) < _CLOCK_TOLERANCE_SECONDS
        return same and running.status() != psutil.STATUS_ZOMBIE  # process ids are reused
    except psutil.NoSuchProcess:
        return False


def exists(pid: int) -> bool:
    """Whether there is a process with this id on this machine, of whichever program."""
    import psutil

    return psutil.pid_exists(pid)


@cache
def this_machine() -> str:
    """Host name, boot id and process-id namespace (of a container): unique for a pid's lifetime."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    return " ".join(
        [
            socket.gethostname(),
            boot.read_text().strip() if boot.exists() else "",
            os.readlink(namespace) if namespace.exists() else "",
        ]
    ).strip()
