"""The self-test of an own architecture: its output, and whether it would resume exactly."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.common.errors import UserError
from src.config import RunConfig
from src.data.spec import CIFAR10, DataSpec
from src.training import precision, step_timing
from src.training.compute_format import ComputeFormat
from src.training.model_self_test import resume_problems
from tests import own_nets
from tests.own_nets import own_run

FORMATS = [ComputeFormat("float32", "contiguous"), ComputeFormat("float32", "channels_last")]

NET = """
import random
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.last = nn.Linear(3, num_classes)
        self.calls = 0
        {init}

    def forward(self, x):
        x = x.mean((2, 3))
        {forward}
        return self.last(x)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reasons(folder: Path, forward: str = "", init: str = "") -> str:
    """Return why a network with these lines would not resume exactly."""
    own_nets.write(folder, NET.format(forward=forward or "pass", init=init or "pass"))
    return "; ".join(resume_problems(own_run("my_nets.py:Net"), CIFAR10))


def of_numpy() -> Any:
    """Return numpy's random state."""
    return np.random.get_state(legacy=True)[1]  # type: ignore[index]


@pytest.mark.parametrize(
    ("forward", "init"),
    [
        ("", ""),
        ("x = nn.functional.dropout(x, 0.3, self.training)", ""),
        ("x = x + torch.randn_like(x) if self.training else x", ""),
        ("self.seen += 1; x = x * self.seen", "self.register_buffer('seen', torch.zeros(()))"),
    ],
)
def test_randomness_of_torch_and_buffers_are_exact(folder: Path, forward: str, init: str) -> None:
    assert reasons(folder, forward, init) == ""


@pytest.mark.parametrize(
    ("forward", "init", "reason"),
    [
        ("x = x * float(np.random.rand()) if self.training else x", "", "its training output"),
        ("x = x * random.random() if self.training else x", "", "its training output"),
        ("self.calls += 1; x = x * self.calls", "", "state dict does not hold all"),
        ("x = x + torch.randn_like(x)", "", "its output in evaluation is random"),
        ("", "self.last.weight.data *= float(np.random.rand())", "its initial weights"),
    ],
)
def test_other_state_is_told_and_leaves_the_random_states_alone(
    folder: Path, forward: str, init: str, reason: str
) -> None:
    states = (torch.get_rng_state(), of_numpy().copy(), random.getstate())
    assert reason in reasons(folder, forward, init)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(of_numpy(), states[1])
    assert random.getstate() == states[2]


def test_registered_architectures_are_not_tested() -> None:
    assert resume_problems(RunConfig(model_type="vit"), CIFAR10) == ()


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        ("return self.last(x)[:, :7]", "it returned (4, 7) for 4 images; expected logits (4, 10)"),
        ("return self.last(x).argmax(1)", "it returned (4,) for 4 images; expected logits (4, 10)"),
        ("return self.last(x), x", "it returned tuple for 4 images; expected logits (4, 10)"),
        ("x = x @ x", "cannot take images (N, 3, 32, 32): my_nets.py, line 16: RuntimeError: "),
    ],
)
def test_wrong_output_is_one_line(folder: Path, forward: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        reasons(folder, forward)
    assert message in str(caught.value)
    assert "'my_nets.py:Net'" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_images_that_a_model_cannot_take_are_one_line(folder: Path) -> None:
    own_nets.write(folder, own_nets.SMALL.replace("Conv2d(3,", "Conv2d(2,"))
    with pytest.raises(UserError, match=r"cannot take images \(N, 1, 16, 16\)"):
        resume_problems(own_run(), DataSpec("grey", ("a", "b"), 1, 16))


def test_output_must_be_that_of_the_head(folder: Path) -> None:
    text = (
        own_nets.CLASSIFIER
        + "\n    def forward(self, x):\n        return 2 * self.head(self.body(x))\n"
    )
    own_nets.write(folder, text)
    with pytest.raises(UserError, match="its output is not head"):
        resume_problems(own_run("my_nets.py:Featured"), CIFAR10)
    own_nets.write(folder, own_nets.CLASSIFIER)
    assert resume_problems(own_run("my_nets.py:Featured"), CIFAR10) == ()


def test_format_in_which_a_model_cannot_compute_is_not_chosen(folder: Path) -> None:
    """view() fails for tensors in channels_last, in which the measurement tries it."""
    text = own_nets.SMALL.replace("nn.Flatten(),", "View(),").replace(
        "class SmallNet",
        "class View(nn.Module):\n    def forward(self, x):\n        return x.view(len(x), -1)\n\n\n"
        "class SmallNet",
    )
    own_nets.write(folder, text)
    config = own_run(memory_format="auto", convolution="auto")
    chosen = precision.select_compute_format(config, torch.device("cpu"))
    assert (chosen.memory_format, chosen.convolution) == ("contiguous", "direct")
    seconds = step_timing.measure(config, torch.device("cpu"), FORMATS)
    assert list(seconds) == FORMATS[:1]
