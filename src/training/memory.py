"""Memory: kept for the next step, given back, and how much there was where it ran out."""

import ctypes
import gc
import re
import resource
from collections.abc import Callable

import psutil
import torch

from src.common.errors import OutOfMemory, amount

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_KEEPING = {
    -4: 0,  # M_MMAP_MAX: no block is mapped on its own, to be unmapped when it is freed
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: the free end of the heap stays
    -2: 2**26,  # M_TOP_PAD: it grows by 64 MiB, rather than page by page
}
_ASKED = re.compile(rf"(?:allocate|allocating) ([\d.]+) ({'|'.join(_UNITS)})\b")


def shortage(error: Exception, device: torch.device) -> OutOfMemory:
    """The same error of a run that had the device to itself, with the amounts.

    To be called where it was raised: what is in use then is what the run had.
    """
    used, free, total = _of_gpu(device) if device.type == "cuda" else _of_host()
    asked = asked_for(str(error))
    more = "more" if asked is None else f"{amount(asked)} more"
    needed = "" if asked is None else f", about {amount(used + asked)} in all"
    return OutOfMemory(
        f"alone on the device it had {amount(used)} and asked for {more}{needed}; "
        f"{amount(free)} of {amount(total)} were free: a smaller batch size or model, or a "
        "device with more memory, helps"
    )


def asked_for(message: str) -> int | None:
    """The bytes that an allocation was for, as PyTorch or numpy tell; None where they do not."""
    found = _ASKED.search(message)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


def keep() -> None:
    """Let this process keep what a training step on the CPU frees, for the next step.

    glibc gives large blocks back to the kernel, which has to clear every page of them when they
    are asked for again: tens of thousands a step. Other C libraries are left as they are.
    """
    for parameter, value in _KEEPING.items():
        of_libc("mallopt", parameter, value)


def give_back() -> None:
    """Collect what nothing refers to, and let other processes have what is kept for later."""
    gc.collect()
    trim()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def trim() -> None:
    """Let other processes have what of the host's memory is kept for later, and is free."""
    of_libc("malloc_trim", 0)


def of_libc(name: str, *arguments: int) -> None:
    """Call a function of the C library, where it has it."""
    if function := getattr(ctypes.CDLL(None), name, None):
        function(*arguments)


def _of_gpu(device: torch.device) -> tuple[int, int, int]:
    """Bytes in use by us, free, and there at all."""
    free, total = torch.cuda.mem_get_info(device)
    return torch.cuda.memory_allocated(device), free, total


def _of_host(limit: Callable[[int], tuple[int, int]] = resource.getrlimit) -> tuple[int, int, int]:
    """The same of this machine, or of what `ulimit -v` leaves of it."""
    ours, machine = psutil.Process().memory_info(), psutil.virtual_memory()
    ceiling = limit(resource.RLIMIT_AS)[0]
    if ceiling == resource.RLIM_INFINITY or ceiling > machine.total:
        return ours.rss, machine.available, machine.total
    return ours.vms, min(machine.available, max(0, ceiling - ours.vms)), ceiling
