"""Convolutions whose weight gradient is a product of columns match nn.Conv2d."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from src import models
from src.config import RunConfig
from src.cpu import columns
from src.cpu.columns import ColumnsConv2d, is_faster_for
from src.cpu.convolutions import replace_convolutions
from src.training import precision
from src.training.compute_format import ComputeFormat

CPU = torch.device("cpu")
CHANNELS_LAST = torch.channels_last


def gradients(conv: nn.Module, x: Tensor, above: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the output and the gradients of a convolution that computes in `dtype`."""
    x = x.detach().clone().requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        y = conv(x)
    y.backward(above.to(y.dtype))
    assert x.grad is not None
    named = {name: parameter.grad for name, parameter in conv.named_parameters()}
    return {"y": y.detach(), "x": x.grad, **named}


def error(exact: Tensor, found: Tensor) -> float:
    """Return the root mean square error relative to the values'."""
    return float((exact - found.double()).square().mean().sqrt() / exact.square().mean().sqrt())


@pytest.mark.parametrize(
    ("channels", "outputs", "size", "bias"), [(128, 160, 4, True), (160, 128, 8, False)]
)
@pytest.mark.parametrize("elements", [100_000, columns._MAX_COLUMN_ELEMENTS])
def test_it_is_as_exact_as_conv2d(
    channels: int,
    outputs: int,
    size: int,
    bias: bool,
    elements: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In bfloat16, against float64; with the columns in one part and in several."""
    monkeypatch.setattr(columns, "_MAX_COLUMN_ELEMENTS", elements)
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, outputs, 3, padding=1, bias=bias)
    plain.to(memory_format=CHANNELS_LAST)
    x = torch.randn(9, channels, size, size).bfloat16().float().to(memory_format=CHANNELS_LAST)
    above = torch.randn(9, outputs, size, size).bfloat16().float()
    with torch.no_grad():
        plain.weight.copy_(plain.weight.bfloat16())
    exact = gradients(copy.deepcopy(plain).double(), x.double(), above.double(), torch.float64)
    ours = gradients(ColumnsConv2d(copy.deepcopy(plain)), x, above, torch.bfloat16)
    theirs = gradients(plain, x, above, torch.bfloat16)
    for name, found in ours.items():
        assert found.shape == exact[name].shape
        assert error(exact[name], found) <= 1.05 * error(exact[name], theirs[name]), name
    assert ours["weight"].dtype == torch.float32


def test_only_convolutions_that_suit_are_replaced() -> None:
    cnn = replace_convolutions(models.create("cnn"), algorithm="columns")
    assert [m.weight.shape[:2] for m in cnn.modules() if isinstance(m, ColumnsConv2d)] == [
        (512, 256),
        (512, 512),
    ]
    assert is_faster_for(nn.Conv2d(128, 128, 3, padding=1), (8, 8))
    for conv, seen in (
        (nn.Conv2d(128, 128, 3, padding=1), (8, 9)),
        (nn.Conv2d(127, 128, 3, padding=1), (8, 8)),
        (nn.Conv2d(128, 128, 3), (8, 8)),
        (nn.Conv2d(128, 128, 3, stride=2, padding=1), (8, 8)),
        (nn.Conv2d(128, 128, 5, padding=1), (8, 8)),
        (nn.Conv2d(256, 256, 3, padding=1, groups=2), (8, 8)),
        (nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"), (8, 8)),
    ):
        assert not is_faster_for(conv, seen)


def test_state_dict_and_function_are_those_of_the_network() -> None:
    torch.manual_seed(0)
    plain = models.create("cnn").eval()
    ours = replace_convolutions(copy.deepcopy(plain), algorithm="columns")
    assert list(ours.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(plain(x), ours(x), atol=1e-6)


def test_it_is_a_candidate_in_bfloat16_alone(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
    candidates = precision._candidates(replace(config, model_type="cnn"), CPU)
    assert [one for one in candidates if one.convolution == "columns"] == [
        ComputeFormat("bfloat16", "channels_last", "columns", fused_norm=True)
    ]
    assert [one.precision for one in candidates if one.convolution == "winograd"] == ["float32"]
    narrow = precision._candidates(replace(config, model_type="tinyvgg"), CPU)
    assert not any(one.convolution == "columns" for one in narrow)
