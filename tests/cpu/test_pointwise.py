"""1x1 convolutions as matrix products match nn.Conv2d."""

import copy

import pytest
import torch
from torch import nn

from src import models
from src.cpu.convolutions import replace_convolutions
from src.cpu.pointwise import PointwiseConv2d, is_faster_for


@pytest.mark.parametrize(("stride", "size", "bias"), [(2, 8, True), (2, 7, False), (1, 4, True)])
def test_it_matches_conv2d_in_outputs_and_gradients(stride: int, size: int, bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(24, 40, 1, stride, bias=bias)
    ours = PointwiseConv2d(copy.deepcopy(plain))
    x = torch.randn(5, 24, size, size).to(memory_format=torch.channels_last)
    found = []
    for layer in (plain, ours):
        seen = x.clone().requires_grad_()
        y = layer(seen)
        torch.manual_seed(1)
        gradients = torch.autograd.grad(y, [seen, *layer.parameters()], torch.randn(y.shape))
        found.append([y, *gradients])
    for theirs, mine in zip(*found, strict=True):
        assert theirs.shape == mine.shape
        assert torch.allclose(theirs, mine, rtol=1e-4, atol=1e-5)


def test_shortcuts_of_resnet_are_replaced() -> None:
    torch.manual_seed(0)
    plain = models.create("resnet").eval()
    ours = replace_convolutions(copy.deepcopy(plain))
    replaced = [one.weight.shape[:2] for one in ours.modules() if isinstance(one, PointwiseConv2d)]
    assert replaced == [(256, 128), (512, 256)]
    assert list(ours.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(plain(x), ours(x), atol=1e-5)


def test_other_convolutions_do_not_suit() -> None:
    assert is_faster_for(nn.Conv2d(4, 4, 1, 2), (4, 4))
    assert not is_faster_for(nn.Conv2d(4, 4, 1, 2), (4, 5))
    for conv in (nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, padding=1), nn.Conv2d(4, 4, 1, groups=2)):
        assert not is_faster_for(conv, (4, 4))
