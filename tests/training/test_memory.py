"""Memory amounts in out-of-memory messages, and the allocator that keeps freed memory."""

import gc
import resource
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch

from src.common.paths import ROOT
from src.training import memory


def test_asked_for_parses_bytes_from_error_messages() -> None:
    gpu = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79 GiB"
    assert memory.asked_for(gpu) == int(2.5 * 2**30)
    with pytest.raises(RuntimeError) as torch_error:
        torch.empty(2**50)
    assert memory.asked_for(str(torch_error.value)) == 4 * 2**50
    with pytest.raises(MemoryError) as numpy_error:
        np.empty(2**47)
    assert memory.asked_for(str(numpy_error.value)) == 2**50
    assert memory.asked_for("") is None


def test_shortage_reports_host_memory() -> None:
    message = str(memory.shortage(MemoryError("Unable to allocate 3.00 GiB"), torch.device("cpu")))
    assert "asked for 3.2 GB more, about " in message
    assert "B were free" in message
    assert "asked for more; " in str(memory.shortage(MemoryError(), torch.device("cpu")))
    used, free, total = memory._of_host()
    assert 0 < used < total
    assert 0 < free < total


def test_host_memory_respects_address_space_limit() -> None:
    code = (
        "import resource; from src.training import memory\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (2**34, {resource.RLIM_INFINITY}))\n"
        "used, free, total = memory._of_host()\n"
        "assert total == 2**34 and free <= total - used, (used, free, total)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_shortage_reports_gpu_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**6, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 70 * 10**9)
    error = torch.OutOfMemoryError("Tried to allocate 10.00 GiB")
    message = str(memory.shortage(error, torch.device("cuda")))
    assert "it had 70.0 GB and asked for 10.7 GB more, about 80.7 GB in all" in message
    assert "1.0 MB of 80.0 GB were free" in message


def test_keep_freed_memory_avoids_page_faults() -> None:
    """Run in a subprocess, since the allocator setting cannot be undone."""
    code = (
        "import resource, torch; from src.cpu import allocator; from src.training import memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(4): torch.ones(2**24)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "def now(): return memory.psutil.Process().memory_info().rss >> 20\n"
        "given_back = faults()\n"
        "allocator.keep_freed_memory()\n"
        "kept, then = min(faults() for _ in range(9)), now()\n"  # once a large enough block is kept
        "memory.give_back()\n"
        "print(given_back, kept, then - now())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    given_back, kept, freed = map(int, done.stdout.split())
    assert kept < 100
    assert given_back > 100 * kept
    assert freed > 50  # MiB, of the 64 of one tensor


def test_frozen_heap_leaves_only_new_objects_to_collection() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    gc.unfreeze()  # the tests' own
    with memory.frozen_heap():
        assert gc.get_freeze_count() > 10_000
        freed = weakref.ref(Cycle())
        assert freed() is not None
        memory.give_back()
        assert freed() is None
        with memory.frozen_heap():
            pass
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0
    gc.freeze()
