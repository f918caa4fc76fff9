"""Out of memory: how much a run had, asked for and could have had; and freeing what is cached."""

import gc
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import torch

from src.common.errors import OutOfMemory, format_bytes
from src.cpu.allocator import return_freed_memory

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_ASKED = re.compile(rf"(?:allocate|allocating) ([\d.]+) ({'|'.join(_UNITS)})\b")


def shortage(error: Exception, device: torch.device) -> OutOfMemory:
    """The out-of-memory error of a run that was alone on the device, with amounts in bytes.

    To be called before the run frees its memory: what is in use now is what the run had.
    """
    used, free, total = _of_gpu(device) if device.type == "cuda" else _of_host()
    asked = asked_for(str(error))
    more = "more" if asked is None else f"{format_bytes(asked)} more"
    needed = "" if asked is None else f", about {format_bytes(used + asked)} in all"
    return OutOfMemory(
        f"alone on the device it had {format_bytes(used)} and asked for {more}{needed}; "
        f"{format_bytes(free)} of {format_bytes(total)} were free: a smaller batch size or model, "
        "or a device with more memory, helps"
    )


def asked_for(message: str) -> int | None:
    """Bytes of the failed allocation, from the message of PyTorch or numpy. None if unknown."""
    match = _ASKED.search(message)
    return round(float(match[1]) * _UNITS[match[2]]) if match else None


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Exclude the objects that exist now, mostly those of modules, from garbage collection.

    `give_back` would look at them after each run, for a tenth of a second or more.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()  # or bindings complain at the exit that they have leaked


def give_back() -> None:
    """Collect garbage, and return cached memory of the host and the GPU for other processes."""
    gc.collect()
    return_freed_memory()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _of_gpu(device: torch.device) -> tuple[int, int, int]:
    """Bytes used by this process, free, and in total."""
    free, total = torch.cuda.mem_get_info(device)
    return torch.cuda.memory_allocated(device), free, total


def _of_host(limit: Callable[[int], tuple[int, int]] = resource.getrlimit) -> tuple[int, int, int]:
    """The same for this machine, or for the limit of `ulimit -v` if that is lower."""
    process, machine = psutil.Process().memory_info(), psutil.virtual_memory()
    ceiling = limit(resource.RLIMIT_AS)[0]
    if ceiling == resource.RLIM_INFINITY or ceiling > machine.total:
        return process.rss, machine.available, machine.total
    return process.vms, min(machine.available, max(0, ceiling - process.vms)), ceiling
