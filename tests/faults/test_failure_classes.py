"""Classification of exceptions and of recorded failures."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from src.common.errors import DiskFull, NonFiniteLoss, OutOfMemory, UserError
from src.faults.failure_classes import FailureClass, affects_every_run, classify, recorded_class


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/data/ECC/file")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), FailureClass.MEMORY),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            FailureClass.MEMORY,
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
            FailureClass.MEMORY,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), FailureClass.MEMORY),
        (OutOfMemory("alone"), FailureClass.MEMORY),
        (os_error(errno.ENOMEM), FailureClass.MEMORY),
        (os_error(errno.ENOSPC), FailureClass.DISK),
        (os_error(errno.EDQUOT), FailureClass.DISK),
        (DiskFull(errno.ENOSPC, "/x", 1, 2), FailureClass.DISK),
        (os_error(errno.EIO), FailureClass.FILE_SYSTEM),
        (os_error(errno.ESTALE), FailureClass.FILE_SYSTEM),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), FailureClass.NODE),
        (RuntimeError("CUDA error: no CUDA-capable device is detected"), FailureClass.NODE),
        (RuntimeError("CUDA driver version is insufficient for CUDA runtime"), FailureClass.NODE),
        (RuntimeError("NCCL error in: x.cpp:1, unhandled system error"), FailureClass.CUDA),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), FailureClass.CUDA),
        (RuntimeError("CUDA error: unspecified launch failure"), FailureClass.CUDA),
        (RuntimeError("The NVIDIA driver: CUDA driver initialization failed"), FailureClass.NODE),
        (NonFiniteLoss("the training loss became nan in epoch 1"), FailureClass.DIVERGED),
        (RuntimeError("CUDA error: device-side assert triggered"), FailureClass.CUDA),
        (os_error(errno.ENOENT), FailureClass.OTHER),
        (KeyError("x"), FailureClass.OTHER),
        (UserError("/data/ECC/out of memory: no such folder"), FailureClass.OTHER),
    ],
)
def test_classify_maps_exception_to_failure_class(error: Exception, expected: FailureClass) -> None:
    assert classify(error) is expected
    wrapped = RuntimeError("a step cannot be captured")
    wrapped.__cause__ = error
    assert classify(wrapped) is expected


def test_real_allocation_errors_are_classified_as_memory() -> None:
    with pytest.raises(RuntimeError) as torch_error:
        torch.empty(2**50)
    with pytest.raises(MemoryError) as numpy_error:
        np.empty(2**50)
    assert classify(torch_error.value) is classify(numpy_error.value) is FailureClass.MEMORY


def test_recorded_class_reads_new_and_old_failure_files() -> None:
    assert recorded_class({"cause": "node trouble", "kind": "x"}) is FailureClass.NODE
    assert (
        recorded_class({"kind": "OutOfMemoryError", "message": "CUDA out"}) is FailureClass.MEMORY
    )
    assert recorded_class({"kind": "non-finite loss", "message": "nan"}) is FailureClass.DIVERGED
    assert recorded_class({"cause": "unheard of", "kind": "KeyError"}) is FailureClass.OTHER
    assert recorded_class({}) is FailureClass.OTHER


def test_affects_every_run_is_true_for_disk_and_user_errors() -> None:
    assert affects_every_run(os_error(errno.ENOSPC))
    assert affects_every_run(os_error(errno.EACCES))
    assert affects_every_run(UserError("x"))
    assert affects_every_run(os_error(errno.EIO))
    assert not affects_every_run(RuntimeError("CUDA error: an illegal memory access"))
    assert not affects_every_run(RuntimeError("No space left on device"))


def test_failure_texts_occur_only_in_classification_code() -> None:
    """Only the listed files name what identifies a failure class; the last four pass it on."""
    words = (
        "out ?of ?memory",
        "No space left on device",
        "ENOSPC",
        "torch.OutOfMemoryError",
    )
    src = Path(__file__).parents[2] / "src"
    files_with_words = {
        path.relative_to(src).as_posix()
        for path in src.rglob("*.py")
        if any(word in path.read_text() for word in words)
    }
    assert files_with_words == {
        "common/errors.py",
        "faults/failure_classes.py",
        "models/custom_model.py",
        "training/cuda_graphs.py",
        "training/model_self_test.py",
        "training/step_timing.py",
    }
