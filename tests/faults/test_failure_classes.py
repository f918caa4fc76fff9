"""One classification of what breaks runs."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from src.common.errors import DiskFull, NonFiniteLoss, OutOfMemory, UserError
from src.faults.failure_classes import Cause, cause_of, cause_written, is_shared


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/data/ECC/file")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), Cause.MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), Cause.MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), Cause.MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), Cause.MEMORY),
        (OutOfMemory("alone"), Cause.MEMORY),
        (os_error(errno.ENOMEM), Cause.MEMORY),
        (os_error(errno.ENOSPC), Cause.DISK),
        (os_error(errno.EDQUOT), Cause.DISK),
        (DiskFull(errno.ENOSPC, "/x", 1, 2), Cause.DISK),
        (os_error(errno.EIO), Cause.NODE),
        (os_error(errno.ESTALE), Cause.NODE),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), Cause.NODE),
        (RuntimeError("CUDA error: no CUDA-capable device is detected"), Cause.NODE),
        (RuntimeError("NCCL error in: x.cpp:1, unhandled system error"), Cause.NODE),
        (RuntimeError("The NVIDIA driver: CUDA driver initialization failed"), Cause.NODE),
        (NonFiniteLoss("the training loss became nan in epoch 1"), Cause.DIVERGED),
        (RuntimeError("CUDA error: device-side assert triggered"), Cause.OTHER),
        (os_error(errno.ENOENT), Cause.OTHER),
        (KeyError("x"), Cause.OTHER),
        (UserError("/data/ECC/out of memory: no such folder"), Cause.OTHER),
    ],
)
def test_the_cause_of_an_exception(error: Exception, cause: Cause) -> None:
    assert cause_of(error) is cause
    wrapped = RuntimeError("a step cannot be captured")
    wrapped.__cause__ = error
    assert cause_of(wrapped) is cause


def test_real_errors_of_memory() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**50)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(2**50)
    assert cause_of(of_torch.value) is cause_of(of_numpy.value) is Cause.MEMORY


def test_the_cause_that_is_written() -> None:
    assert cause_written({"cause": "node trouble", "kind": "x"}) is Cause.NODE
    assert cause_written({"kind": "OutOfMemoryError", "message": "CUDA out"}) is Cause.MEMORY
    assert cause_written({"kind": "non-finite loss", "message": "nan"}) is Cause.DIVERGED
    assert cause_written({"cause": "unheard of", "kind": "KeyError"}) is Cause.OTHER
    assert cause_written({}) is Cause.OTHER


def test_what_the_next_run_would_meet_as_well() -> None:
    assert is_shared(os_error(errno.ENOSPC))
    assert is_shared(os_error(errno.EACCES))
    assert is_shared(UserError("x"))
    assert not is_shared(os_error(errno.EIO))
    assert not is_shared(RuntimeError("No space left on device"))


def test_there_is_one_classification() -> None:
    """Only one file of the code knows these words."""
    words = ("out ?of ?memory", "No space left on device", "ENOSPC", "torch.OutOfMemoryError")
    src = Path(__file__).parents[2] / "src"
    knowing = {
        path.relative_to(src).as_posix()
        for path in src.rglob("*.py")
        if any(word in path.read_text() for word in words)
    }
    assert knowing == {"causes.py", "training/lane.py"}
