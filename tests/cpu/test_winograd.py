"""Winograd convolutions match direct convolutions up to rounding."""

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
from src.cpu.winograd import WinogradConv2d, is_faster_for
from src.data.device_dataset import DeviceDataset, normalization_table
from src.training.trainer import Trainer, TrainingResult

CHANNELS_LAST, CONTIGUOUS = torch.channels_last, torch.contiguous_format


def exact_and_winograd(
    conv: nn.Conv2d, x: Tensor, upstream: Tensor
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return outputs and gradients of `conv` in float64, and of its replacement in float32."""
    exact = copy.deepcopy(conv).double()
    replacement = WinogradConv2d(conv)
    results = []
    for module, images in ((exact, x.double()), (replacement, x.clone())):
        images.requires_grad_()
        y = module(images)
        trained_tensors = [images, *module.parameters()]
        results.append([y, *torch.autograd.grad(y, trained_tensors, upstream.to(y.dtype))])
    return results[0], results[1]


def error(exact: Tensor, ours: Tensor) -> float:
    return ((exact - ours.double()).norm() / exact.norm()).item()


@pytest.mark.parametrize("layout", [CHANNELS_LAST, CONTIGUOUS])
@pytest.mark.parametrize(
    ("batch", "inputs", "outputs", "height", "width"),
    [(3, 5, 7, 8, 12), (1, 48, 64, 4, 4), (2, 64, 48, 4, 16)],
)
@pytest.mark.parametrize("bias", [True, False])
def test_winograd_outputs_and_gradients_match_float64(
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
    exact, ours = exact_and_winograd(conv, x, torch.randn(batch, outputs, height, width))
    assert len(exact) == (4 if bias else 3)
    assert [tuple(tensor.shape) for tensor in ours] == [tuple(tensor.shape) for tensor in exact]
    assert max(map(error, exact, ours)) < 1e-5


def test_inputs_and_weights_without_requires_grad_get_no_gradient() -> None:
    conv = nn.Conv2d(5, 7, 3, padding=1)
    x = torch.randn(2, 5, 8, 8)
    replacement = WinogradConv2d(conv)
    replacement(x).sum().backward()
    assert x.grad is None
    assert conv.weight.grad is not None
    replacement.requires_grad_(False)
    before = conv.weight.grad.clone()
    x.requires_grad_()
    replacement(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(conv.weight.grad, before)


def test_winograd_under_autocast_is_as_accurate_as_direct() -> None:
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
def test_suits_accepts_only_supported_convolutions(
    conv: nn.Conv2d, size: tuple[int, int], expected: bool
) -> None:
    assert is_faster_for(conv, size) is expected


@pytest.mark.parametrize(
    ("name", "count"), [("cnn", 5), ("resnet", 7), ("resnet9", 7), ("cifar10net", 0), ("vit", 0)]
)
def test_number_of_replaced_convolutions_per_model(name: str, count: int) -> None:
    torch.manual_seed(0)
    plain = models.create(name)
    ours = replace_convolutions(copy.deepcopy(plain), algorithm="winograd")
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


def test_run_with_winograd_matches_direct_losses(
    config: RunConfig, small_data: DeviceDataset
) -> None:
    """Train a single step, whose losses are continuous in the rounding errors of the kernels.

    More steps would magnify these errors: after six steps of AdamW, which depends on the sign of
    each gradient, initial weights that differ by a rounding give losses that differ by 0.13 %.
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
        trained(replace(run, convolution=algorithm), small_data)
        for algorithm in ("direct", "winograd", "winograd")
    )
    assert direct.numbers["convolution"] == "direct"
    assert ours.numbers["convolution"] == "winograd"
    for name in ("train_loss", "val_loss"):
        assert ours.numbers[name] == pytest.approx(direct.numbers[name], rel=STEP_ERROR)
        assert ours.numbers[name] == again.numbers[name]
    expected, state = direct.weights["terminal"], ours.weights["terminal"]
    assert list(expected) == list(state)
    for key, tensor in again.weights["terminal"].items():
        assert torch.equal(tensor, state[key])


def amplification() -> float:
    """Return the ratio of the terms of a tile to the outputs or gradients that they sum to.

    It is a ratio of root mean squares, for white-noise maps and kernels, whose variances add. In
    two dimensions the ratio of variances is the square of that in one dimension, so its root is
    the ratio of variances in one dimension, which is computed here: each of 6 values is a sum over
    a row of either transform, and enters the outputs by its column of the third; four outputs are
    sums of three products each. The gradients have the same three factors.
    """
    of_output, of_input, of_kernel = (
        torch.tensor(matrix, dtype=torch.float64).square()
        for matrix in (winograd.A_T, winograd.B_T, winograd.G)
    )
    terms = of_output.sum(0) * of_input.sum(1) * of_kernel.sum(1)
    return (terms.sum() / (4 * 3)).item()


IMAGES, REPLACED = 4, 3
AMPLIFICATION = amplification()
LONGEST_SUM = 16 + 9 + 25 + IMAGES * (32 // 4) ** 2
"""Number of terms: nonzero ones of the transforms (4x4, 3x3, 5x5), and those of the tile sum."""
LAYER_ERROR = AMPLIFICATION * 2**-24 * math.sqrt(LONGEST_SUM)
"""Relative error of a layer's outputs or gradients: a sum of n terms is off by up to sqrt(n) times
half a unit in the last place of float32, and the terms are larger than their sum."""
STEP_ERROR = LAYER_ERROR * math.sqrt(2 * REPLACED)
"""Relative error of a training step: layers add independent errors, forward and backward."""


def test_rounding_error_bound_has_expected_value() -> None:
    """The error bound follows from the published transforms."""
    assert pytest.approx(10.77, abs=0.01) == AMPLIFICATION
    assert STEP_ERROR < 3e-5


def without_kinks(model: nn.Module) -> nn.Module:
    """Replace ReLU and max-pooling in `model` by smooth functions, and return it.

    For inputs that differ by a rounding, ReLU or max-pooling may pass a gradient in one case and
    not in the other, a difference far larger than the rounding errors of a convolution.
    """
    for name, module in list(model.named_modules()):
        parent, _, child = name.rpartition(".")
        if isinstance(module, nn.ReLU):
            setattr(model.get_submodule(parent), child, nn.GELU())
        elif isinstance(module, nn.MaxPool2d):
            setattr(model.get_submodule(parent), child, nn.AvgPool2d(2))
    return model


class Step:
    """Compare logits and gradients of a training step with those in float64."""

    def __init__(self, data: DeviceDataset) -> None:
        torch.manual_seed(0)
        self.model = without_kinks(models.create("tinyvgg")).to(memory_format=CHANNELS_LAST)
        table = normalization_table("imagenet", data.dataset.train_images)
        images, self.labels = data.train.batch(torch.arange(IMAGES), table)
        self.images = images.contiguous(memory_format=CHANNELS_LAST)
        exact = copy.deepcopy(self.model).double()
        self.exact = self._outputs_and_gradients(exact, self.images.double(), torch.float64)

    def errors(self, *, winograd: bool, dtype: torch.dtype = torch.float32) -> dict[str, float]:
        """Return the relative error of the logits and of each gradient."""
        algorithm = "winograd" if winograd else "direct"
        model = replace_convolutions(copy.deepcopy(self.model), algorithm=algorithm)
        count = sum(isinstance(module, WinogradConv2d) for module in model.modules())
        assert count == (REPLACED if winograd else 0)
        results = self._outputs_and_gradients(model, self.images, dtype)
        return {name: error(self.exact[name], tensor) for name, tensor in results.items()}

    def _outputs_and_gradients(
        self, model: nn.Module, images: Tensor, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            logits = model(images)
        if dtype == torch.bfloat16:
            logits = logits.float()
        names, trained_tensors = zip(*model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(cross_entropy(logits, self.labels), trained_tensors)
        return {"logits": logits.detach(), **dict(zip(names, gradients, strict=True))}


def tensors_beyond_bound(step: Step, direct: dict[str, float]) -> list[str]:
    """Return the tensors whose Winograd error exceeds the direct error by more than the bound."""
    ours = step.errors(winograd=True)
    return [name for name in ours if ours[name] > direct[name] + STEP_ERROR]


def test_winograd_step_matches_float64_reference(small_data: DeviceDataset) -> None:
    step = Step(small_data)
    direct = step.errors(winograd=False)
    assert max(direct.values()) < 1e-4, "the direct convolution must be accurate for a comparison"
    assert tensors_beyond_bound(step, direct) == []


def test_error_of_0_1_percent_in_any_coefficient_exceeds_bound(
    small_data: DeviceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counterpart of the test above: an error in any coefficient of a transform is detected."""
    step = Step(small_data)
    direct = step.errors(winograd=False)
    for name in ("B_T", "G", "A_T"):
        matrix = getattr(winograd, name)
        for row, column in torch.tensor(matrix).nonzero().tolist():
            wrong = [list(values) for values in matrix]
            wrong[row][column] *= 1.001
            with monkeypatch.context() as patch:
                patch.setattr(winograd, name, wrong)
                assert tensors_beyond_bound(step, direct), (name, row, column)


def test_winograd_step_under_autocast_is_as_accurate_as_direct(
    small_data: DeviceDataset,
) -> None:
    """Winograd rounds no weights to bfloat16, but everything else that autocast rounds.

    The total error is compared, since single small gradients can be more accurate by chance.
    """
    step = Step(small_data)
    direct, ours = (
        step.errors(winograd=winograd, dtype=torch.bfloat16) for winograd in (False, True)
    )
    assert math.hypot(*ours.values()) <= math.hypot(*direct.values()) * 1.01
