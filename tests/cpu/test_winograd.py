"""Winograd's convolutions are the convolutions that they replace, up to rounding."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from src import models
from src.config import RunConfig
from src.cpu import winograd
from src.cpu.convolutions import replace_convolutions
from src.cpu.winograd import WinogradConv2d, suits
from src.data.device_dataset import DeviceDataset, normalization_table
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
    """A run of one step, since the losses around it are continuous in what the kernels round.

    More steps would only magnify that: six of AdamW's, which go by the sign of each gradient,
    take two runs whose weights began a rounding apart to losses 0.13 % apart.
    """
    run = replace(
        config,
        model_type="tinyvgg",
        batch_norm=True,
        precision="float32",
        memory_format="channels_last",
        batch_size=96,
        max_images=96,
        optimizer="sgd",
        learning_rate=1e-2,
        num_epochs=1,
    )
    direct, ours, again = (
        trained(replace(run, convolution=way), small_data)
        for way in ("direct", "winograd", "winograd")
    )
    assert direct.numbers["convolution"] == "direct"
    assert ours.numbers["convolution"] == "winograd"
    for name in ("train_loss", "val_loss"):
        assert ours.numbers[name] == pytest.approx(direct.numbers[name], rel=OF_A_STEP)
        assert ours.numbers[name] == again.numbers[name]
    expected, state = direct.weights["terminal"], ours.weights["terminal"]
    assert list(expected) == list(state)
    for key, tensor in again.weights["terminal"].items():
        assert torch.equal(tensor, state[key])


def amplification() -> float:
    """How much larger the terms of a tile are than the outputs or gradients they cancel to.

    As root mean squares, for maps and kernels of white noise, whose values add up as squares: of
    a square, the square of what one side of it does; so its root is what one side does. There a
    value of 6 is a row of either transform, squared, and enters the outputs by its column. Four
    outputs are sums of three products each. The gradients are made of the same three factors.
    """
    of_output, of_input, of_kernel = (
        torch.tensor(matrix, dtype=torch.float64).square()
        for matrix in (winograd._OF_OUTPUT, winograd._OF_INPUT, winograd._OF_KERNEL)
    )
    terms = of_output.sum(0) * of_input.sum(1) * of_kernel.sum(1)
    return (terms.sum() / (4 * 3)).item()


IMAGES, REPLACED = 4, 3
AMPLIFICATION = amplification()
LONGEST_SUM = 16 + 9 + 25 + IMAGES * (32 // 4) ** 2
"""Terms of the transforms' sums (4x4, 3x3 and 5x5 are not zero), and of that over tiles."""
OF_A_LAYER = AMPLIFICATION * 2**-24 * math.sqrt(LONGEST_SUM)
"""The relative error of its outputs or gradients: a sum of n terms is off by up to sqrt(n) of the
half units in the last place of float32, and the terms are larger than what becomes of them."""
OF_A_STEP = OF_A_LAYER * math.sqrt(2 * REPLACED)
"""As each layer adds its own, independent of the others', forwards and backwards."""


def test_what_may_be_rounded_is_known() -> None:
    """The published transforms, and no others, are as exact as is asked for below."""
    assert pytest.approx(10.77, abs=0.01) == AMPLIFICATION
    assert OF_A_STEP < 3e-5


def without_kinks(model: nn.Module) -> nn.Module:
    """`model` with a smooth function for each that is not.

    Where two maps differ by a rounding, a ReLU or a maximum may pass a whole gradient on in one
    and none in the other: that is thousands of roundings, and says nothing of a convolution.
    """
    for name, module in list(model.named_modules()):
        parent, _, child = name.rpartition(".")
        if isinstance(module, nn.ReLU):
            setattr(model.get_submodule(parent), child, nn.GELU())
        elif isinstance(module, nn.MaxPool2d):
            setattr(model.get_submodule(parent), child, nn.AvgPool2d(2))
    return model


class Step:
    """The logits and gradients of a step of a network, exactly and in other ways."""

    def __init__(self, data: DeviceDataset) -> None:
        torch.manual_seed(0)
        self.model = without_kinks(models.create("tinyvgg")).to(memory_format=CHANNELS_LAST)
        table = normalization_table("imagenet", data.dataset.train_images)
        images, self.labels = data.train.batch(torch.arange(IMAGES), table)
        self.images = images.contiguous(memory_format=CHANNELS_LAST)
        exact = copy.deepcopy(self.model).double()
        self.exact = self._made(exact, self.images.double(), torch.float64)

    def errors(self, *, winograd: bool, dtype: torch.dtype = torch.float32) -> dict[str, float]:
        """The relative error of each."""
        model = replace_convolutions(copy.deepcopy(self.model), winograd=winograd)
        count = sum(isinstance(module, WinogradConv2d) for module in model.modules())
        assert count == (REPLACED if winograd else 0)
        made = self._made(model, self.images, dtype)
        return {name: error(self.exact[name], tensor) for name, tensor in made.items()}

    def _made(self, model: nn.Module, images: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            logits = model(images)
        if dtype == torch.bfloat16:
            logits = logits.float()
        names, learns = zip(*model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(cross_entropy(logits, self.labels), learns)
        return {"logits": logits.detach(), **dict(zip(names, gradients, strict=True))}


def too_far(step: Step, direct: dict[str, float]) -> list[str]:
    """What Winograd's algorithm gets wrong by more than it may round beside what all do."""
    ours = step.errors(winograd=True)
    return [name for name in ours if ours[name] > direct[name] + OF_A_STEP]


def test_a_step_with_it_is_the_step_in_float64(small_data: DeviceDataset) -> None:
    step = Step(small_data)
    direct = step.errors(winograd=False)
    assert max(direct.values()) < 1e-4, "else nothing is compared"
    assert too_far(step, direct) == []


def test_a_coefficient_that_is_off_by_a_thousandth_is_too_far(
    small_data: DeviceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the test above, with every coefficient of each transform."""
    step = Step(small_data)
    direct = step.errors(winograd=False)
    for name in ("_OF_INPUT", "_OF_KERNEL", "_OF_OUTPUT"):
        matrix = getattr(winograd, name)
        for row, column in torch.tensor(matrix).nonzero().tolist():
            wrong = [list(values) for values in matrix]
            wrong[row][column] *= 1.001
            with monkeypatch.context() as patch:
                patch.setattr(winograd, name, wrong)
                assert too_far(step, direct), (name, row, column)


def test_under_autocast_a_step_is_better_than_with_the_convolution(
    small_data: DeviceDataset,
) -> None:
    """It rounds no weights to bfloat16, and all else that is rounded there it rounds too.

    On the whole: one small gradient can come off better by chance.
    """
    step = Step(small_data)
    direct, ours = (
        step.errors(winograd=winograd, dtype=torch.bfloat16) for winograd in (False, True)
    )
    assert math.hypot(*ours.values()) <= math.hypot(*direct.values()) * 1.01
