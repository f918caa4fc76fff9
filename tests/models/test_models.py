"""Architectures: published numbers of parameters, shapes, layers and options."""

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from src import models
from src.common.errors import UserError
from src.common.paths import ROOT
from src.config import RunConfig, model_types
from src.models.classifier import Classifier
from src.training.model_setup import build_model

PARAMETERS = {
    **{"cnn": 13_243_146, "resnet": 11_186_442, "vit": 92_502_122},
    **{"tinyvgg": 153_546, "resnet9": 6_573_120, "vgg6": 34_749_002},
    **{"cifar10net": 201_230, "cifar10net_2": 60_426, "cifar10net_3": 27_930},
    **{"cifar10net_4": 57_050, "cifar10net_5": 117_386, "cifar10net_6": 73_786},
    **{"cifar10net_7": 201_230, "cifar10net_optim": 216_282, "resnet18_transfer": 11_181_642},
}
FEATURES = {
    **{"cnn": 256, "resnet": 512, "vit": 2048, "tinyvgg": 4096, "resnet9": 512, "vgg6": 4096},
    **{"cifar10net": 64, "cifar10net_2": 16, "cifar10net_3": 1440, "cifar10net_4": 32},
    **{"cifar10net_5": 32, "cifar10net_6": 32, "cifar10net_7": 64, "cifar10net_optim": 128},
    "resnet18_transfer": 512,
}


@pytest.mark.parametrize("name", model_types())
def test_architecture_has_published_parameters_and_shapes(name: str) -> None:
    model = models.create(name).eval()
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        features, logits = model.features(images), model(images)
    assert features.shape == (3, FEATURES[name])
    assert logits.shape == (3, 10)
    assert torch.equal(model.head(features), logits)
    assert not torch.allclose(logits.exp().sum(dim=1), torch.ones(3)), "logits, not probabilities"


@pytest.mark.parametrize("name", model_types())
def test_architecture_runs_on_meta_device(name: str) -> None:
    """Benchmarks count operations, and runs look for convolutions, on the meta device."""
    with torch.device("meta"):
        model = models.create(name).eval()
        assert model(torch.empty(3, 3, 32, 32)).shape == (3, 10)
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}


@pytest.mark.parametrize("name", model_types())
def test_evaluation_batch_keeps_activations_below_a_gigabyte(name: str) -> None:
    """In float32, so that a GPU with 8 GB can evaluate every architecture."""
    sizes = []
    with torch.device("meta"):
        model = models.create(name).eval()
        for module in model.modules():
            module.register_forward_hook(lambda *call: sizes.append(call[-1].numel() * 4))
        model(torch.empty(model.evaluation_batch["cuda"], 3, 32, 32))
    assert max(sizes) < 1e9


def test_evaluation_is_independent_of_other_images_in_batch() -> None:
    images = torch.randn(4, 3, 32, 32)
    for name in ("cnn", "resnet", "cifar10net_6", "tinyvgg", "resnet9"):
        model = models.create(name).eval()
        with torch.no_grad():
            assert torch.allclose(model(images)[:2], model(images[:2]), atol=1e-4)


def test_vit_patch_embedding_gets_row_major_pixels() -> None:
    """Patches are 4x4 blocks of pixels, flattened row by row with channels last."""
    model: Any = models.create("vit")
    embedded: list[torch.Tensor] = []
    model.embed.register_forward_pre_hook(lambda _, inputs: embedded.append(inputs[0]))
    images = torch.arange(3 * 32 * 32, dtype=torch.float32).view(1, 3, 32, 32)
    with torch.no_grad():
        model.features(images)
    corner = images[0, :, :4, 4:8].permute(1, 2, 0).reshape(-1)
    assert torch.equal(embedded[0][0, 1], corner)


def test_vit_position_embeddings_match_published_formula() -> None:
    model: Any = models.create("vit")
    positions = model.positions
    assert positions.shape == (64, 2048)
    y, x, frequency = 3, 5, 10_000 ** -(7 / 511)
    row = positions[y * 8 + x]
    angles = (x * frequency, y * frequency)
    expected = [wave(angle) for angle in angles for wave in (math.sin, math.cos)]
    assert [row[part * 512 + 7].item() for part in range(4)] == pytest.approx(expected, abs=1e-5)


def test_classifier_without_features_method_raises_type_error() -> None:
    class Headless(Classifier):
        pass

    headless: Any = Headless
    with pytest.raises(TypeError, match="features"):
        headless()


def test_dropout_option_is_rejected_by_models_without_dropout() -> None:
    rates = {m.p for m in models.create("cnn", dropout=0.4).modules() if hasattr(m, "p")}
    assert rates == {0.4}
    with pytest.raises(UserError, match="--dropout: model resnet has no such option"):
        models.create("resnet", dropout=0.4)
    assert models.options_of(RunConfig()) == {}


def layers(model: Classifier) -> list[str]:
    """Return the class names of a model's layers in order."""
    return [type(m).__name__ for m in model.modules() if not list(m.children())]


def test_tinyvgg_has_layers_of_cnn_explainer() -> None:
    block = ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d"]
    assert layers(models.create("tinyvgg")) == [*block, *block, "Flatten", "Linear"]
    ten = models.create("tinyvgg", hidden_units=10)
    assert {m.out_channels for m in ten.modules() if isinstance(m, nn.Conv2d)} == {10}
    assert ten.features(torch.randn(2, 3, 32, 32)).shape == (2, 640)


def test_tinyvgg_options_add_batch_norm_and_dropout() -> None:
    with_batch_norm = models.create("tinyvgg", batch_norm=True)
    assert sum(p.numel() for p in with_batch_norm.parameters()) == 154_058
    model = models.create("tinyvgg", batch_norm=True, dropout=0.2)
    block = [*["Conv2d", "BatchNorm2d", "ReLU"] * 2, "MaxPool2d", "Dropout2d"]
    assert layers(model) == [*block, *block, "Flatten", "Dropout", "Linear"]
    assert {m.p for m in model.modules() if hasattr(m, "p")} == {0.2}
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(images), model(images))
    assert torch.equal(model.eval()(images), model(images))
    assert torch.equal(model.head(model.features(images)), model(images))


def test_resnet9_pools_before_batch_norm() -> None:
    block, pooled = (
        ["Conv2d", "BatchNorm2d", "ReLU"],
        ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"],
    )
    stages = [*block, *pooled, *block, *block, *pooled, *pooled, *block, *block]
    assert layers(models.create("resnet9")) == [*stages, "MaxPool2d", "Flatten", "Linear"]
    rates = [m.p for m in models.create("resnet9", dropout=0.1).modules() if hasattr(m, "p")]
    assert rates == [0.1] * 8


def test_cifar10net_variants_have_published_layers() -> None:
    norms = {m for m in models.create("cifar10net_4").modules() if isinstance(m, nn.BatchNorm2d)}
    assert sorted(norm.num_features for norm in norms) == [16, 32]
    residual: Any = models.create("cifar10net_6")
    kernels = [block.projection.kernel_size for block in residual.convolutions[:2]]
    assert kernels == [(9, 9), (5, 5)]
    optimized = models.create("cifar10net", fc1=128, fc2=128, dropout=0.46)
    assert layers(optimized) == layers(models.create("cifar10net_optim"))
    assert {m.p for m in models.create("cifar10net_7").modules() if hasattr(m, "p")} == {0.5}


def test_model_options_of_config_are_passed_to_model() -> None:
    config = RunConfig(model_type="tinyvgg", hidden_units=8, batch_norm=True, dropout=0.0)
    options = models.options_of(config)
    assert options == {"hidden_units": 8, "batch_norm": True, "dropout": 0.0}
    assert build_model(config, torch.device("cpu")).head.in_features == 512
    assert models.options_of(RunConfig(batch_norm=False)) == {"batch_norm": False}
    for name in ("hidden_units", "batch_norm"):
        with pytest.raises(UserError, match=f"--{name}: model cnn has no such option"):
            models.check_options("cnn", {name: options[name]})


def test_unknown_model_error_lists_known_models() -> None:
    with pytest.raises(UserError, match="expected one of resnet, cnn, vit"):
        models.create("lenet")


def test_model_types_does_not_import_torch() -> None:
    code = "import sys, src.config as c; c.model_types(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
