"""A plugin of pytest, `-p tests.as_on_amx`: what is auto is bfloat16, as on a CPU with AMX.

There it is measured to be the fastest; where it is emulated nobody would choose it. Commands that
run in processes of their own choose as on any other machine.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import torch

from src.config import RunConfig
from src.runs import restore
from src.training import device, precision
from src.training.precision import ComputeFormat

_SECONDS = {"bfloat16": 0.5, "float32": 1.0, "channels_last": 0.9, "contiguous": 1.0}
_session = ExitStack()


def pytest_configure() -> None:
    """Before any test, and so before what tests share is trained."""
    _session.enter_context(forced())


def pytest_unconfigure() -> None:
    """As it was."""
    _session.close()


@contextmanager
def forced() -> Iterator[None]:
    """This process finds that its device computes in bfloat16, and that this is fast."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (precision, device, restore):
            patch.setattr(module, "has_fast_bfloat16", lambda device: True)
        patch.setattr(precision, "measure", _measured)
        yield


def _measured(
    config: RunConfig, device: torch.device, candidates: list[ComputeFormat]
) -> dict[ComputeFormat, float]:
    """Seconds of a step, in no time: it would take minutes in bfloat16 that is emulated."""
    return {one: _SECONDS[one.precision] * _SECONDS[one.memory_format] for one in candidates}
