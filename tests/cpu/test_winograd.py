"""Winograd's convolutions are the convolutions that they replace, up to rounding."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from src import models
from src.config import RunConfig
from src.cpu.convolutions import replace_convolutions
from src.cpu.winograd import WinogradConv2d, suits
from src.data.device_dataset import DeviceDataset
from src.training.trainer import Trainer, TrainingResult

CHANNELS_LAST, CONTIGUOUS = torch.channels_last, torch.contiguous_format


def both(conv: nn.Conv2d, x: Tensor, upstream: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Outputs and gradients of `conv` in float64, and of its replacement in float32."""
    exact = copy.deepcopy(conv).double()
    twin = WinogradConv2d(conv)
    made = []
    for module, images in ((exact, x.double()), (twin, x.clone())):
        images.requires_grad_()
        y = module(images)
        learns = [images, *module.parameters()]
        made.append([y, *torch.autograd.grad(y, learns, upstream.to(y.dtype))])
    return made[0], made[1]


def error(exact: Tensor, ours: Tensor) -> float:
    return ((exact - ours.double()).norm() / exact.norm()).item()


@pytest.mark.parametrize("layout", [CHANNELS_LAST, CONTIGUOUS])
@pytest.mark.parametrize(
    ("batch", "inputs", "outputs", "height", "width"),
    [(3, 5, 7, 8, 12), (1, 48, 64, 4, 4), (2, 64, 48, 4, 16)],
)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_same_function(
    layout: torch.memory_format,
    batch: int,
    inputs: int,
    outputs: int,
    height: int,
    width: int,
    bias: bool,
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias).to(memory_format=layout)
    x = torch.randn(batch, inputs, height, width).contiguous(memory_format=layout)
    exact, ours = both(conv, x, torch.randn(batch, outputs, height, width))
    assert len(exact) == (4 if bias else 3)
    assert [tuple(tensor.shape) for tensor in ours] == [tuple(tensor.shape) for tensor in exact]
    assert max(map(error, exact, ours)) < 1e-5


def test_what_does_not_learn_gets_no_gradient() -> None:
    conv = nn.Conv2d(5, 7, 3, padding=1)
    x = torch.randn(2, 5, 8, 8)
    twin = WinogradConv2d(conv)
    twin(x).sum().backward()
    assert x.grad is None
    assert conv.weight.grad is not None
    twin.requires_grad_(False)
    before = conv.weight.grad.clone()
    x.requires_grad_()
    twin(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(conv.weight.grad, before)


def test_under_autocast_it_is_better_than_the_convolution_there() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(48, 48, 3, padding=1)
    x = torch.randn(2, 48, 8, 8)
    exact = conv.double()(x.double())
    conv.float()
    with torch.autocast("cpu", torch.bfloat16):
        direct, ours = conv(x.bfloat16()), WinogradConv2d(conv)(x.bfloat16())
    assert ours.dtype == torch.bfloat16
    assert error(exact, ours) <= error(exact, direct) * 1.01


@pytest.mark.parametrize(
    ("conv", "size", "expected"),
    [
        (nn.Conv2d(48, 64, 3, padding=1), (8, 12), True),
        (nn.Conv2d(48, 64, 3, padding=1), (8, 6), False),
        (nn.Conv2d(3, 64, 3, padding=1), (8, 8), False),
        (nn.Conv2d(64, 32, 3, padding=1), (8, 8), False),
        (nn.Conv2d(64, 64, 3), (8, 8), False),
        (nn.Conv2d(64, 64, 3, padding="same"), (8, 8), False),
        (nn.Conv2d(64, 64, 3, stride=2, padding=1), (8, 8), False),
        (nn.Conv2d(64, 64, 3, padding=2, dilation=2), (8, 8), False),
        (nn.Conv2d(64, 64, 3, padding=1, groups=2), (8, 8), False),
        (nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"), (8, 8), False),
        (nn.Conv2d(64, 64, 5, padding=2), (8, 8), False),
    ],
)
def test_which_it_suits(conv: nn.Conv2d, size: tuple[int, int], expected: bool) -> None:
    assert suits(conv, size) is expected


@pytest.mark.parametrize(
    ("name", "count"), [("cnn", 5), ("resnet", 7), ("resnet9", 7), ("cifar10net", 0), ("vit", 0)]
)
def test_which_are_replaced(name: str, count: int) -> None:
    torch.manual_seed(0)
    plain = models.create(name)
    ours = replace_convolutions(copy.deepcopy(plain), winograd=True)
    assert sum(isinstance(module, WinogradConv2d) for module in ours.modules()) == count
    expected, state = plain.state_dict(), ours.state_dict()
    assert list(expected) == list(state)
    assert all(torch.equal(expected[key], state[key]) for key in expected)


def trained(run: RunConfig, data: DeviceDataset) -> TrainingResult:
    trainer = Trainer(run, data).start()
    while trainer.advance():
        pass
    assert trainer.trained
    return trainer.trained


def test_trained_with_it_a_run_is_the_same(config: RunConfig, small_data: DeviceDataset) -> None:
    run = replace(
        config,
        model_type="tinyvgg",
        batch_norm=True,
        precision="float32",
        memory_format="channels_last",
        batch_size=32,
        max_images=96,
        learning_rate=1e-3,
    )
    direct, ours, again = (
        trained(replace(run, convolution=way), small_data)
        for way in ("direct", "winograd", "winograd")
    )
    assert direct.numbers["convolution"] == "direct"
    assert ours.numbers["convolution"] == "winograd"
    for name in ("train_loss", "val_loss"):
        assert ours.numbers[name] == pytest.approx(direct.numbers[name], rel=1e-3)
        assert ours.numbers[name] == again.numbers[name]
    expected, state = direct.weights["terminal"], ours.weights["terminal"]
    assert list(expected) == list(state)
    for key, tensor in again.weights["terminal"].items():
        assert torch.equal(tensor, state[key])
