"""Pytest plugin (`-p tests.bfloat16_plugin`): auto precision resolves to bfloat16.

That is what is measured on CPUs with AMX. On CPUs that emulate bfloat16 auto resolves to float32.
Subprocesses are not affected.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import torch

from src.config import RunConfig
from src.data.spec import DataSpec
from src.runs import restore
from src.training import device, precision
from src.training.compute_format import ComputeFormat

_SECONDS = {"bfloat16": 0.5, "float32": 1.0, "channels_last": 0.9, "contiguous": 1.0}
_session = ExitStack()


def pytest_configure() -> None:
    """Force bfloat16 before any test, and so before session fixtures train."""
    _session.enter_context(forced_bfloat16())


def pytest_unconfigure() -> None:
    """Restore the patched functions."""
    _session.close()


@contextmanager
def forced_bfloat16() -> Iterator[None]:
    """Patch this process so that bfloat16 is supported and measured as fastest."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (precision, device, restore):
            patch.setattr(module, "has_fast_bfloat16", lambda device: True)
        patch.setattr(precision, "measure", _fake_measurement)
        yield


def _fake_measurement(
    config: RunConfig, device: torch.device, candidates: list[ComputeFormat], data: DataSpec
) -> dict[ComputeFormat, float]:
    """Return fixed step times, since measuring emulated bfloat16 would take minutes."""
    return {
        candidate: _SECONDS[candidate.precision] * _SECONDS[candidate.memory_format]
        for candidate in candidates
    }
