"""Initial weights: initialisation schemes, pretrained files, frozen backbones."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from src.common.errors import UserError
from src.config import RunConfig
from src.run import run
from src.training import initial_weights
from src.training.model_setup import build_model
from src.training.optimizers import build_optimizer

CPU = torch.device("cpu")
TRANSFER = RunConfig(model_type="resnet18_transfer", weights="none", scheduler="none")


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Save a ResNet-18 state dict like torchvision's, with random weights."""
    torch.manual_seed(1)
    file = tmp_path / "resnet18.pt"
    torch.save(resnet18(weights=None).state_dict(), file)
    return file


def test_kaiming_normal_weights_have_he_variance() -> None:
    initialized = build_model(RunConfig(model_type="vgg6", initialization="kaiming_normal"), CPU)
    default = build_model(RunConfig(model_type="vgg6"), CPU)
    for module in initialized.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            std = module.weight.std().item()
            assert std == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
    biases = [name for name, _ in initialized.named_parameters() if name.endswith("bias")]
    assert len(biases) == 9
    assert not torch.equal(initialized.head.weight, default.head.weight)  # type: ignore[arg-type]


def test_pretrained_backbone_is_frozen(imagenet: Path) -> None:
    model = build_model(replace(TRANSFER, weights=str(imagenet)), CPU)
    saved = torch.load(imagenet, weights_only=True)
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, saved[name]), name
    model.train()
    assert not any(module.training for module in model.backbone.modules())
    assert model.head.training
    optimizer = build_optimizer(TRANSFER, model, torch.tensor(0.1))
    trainable = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert [id(p) for p in trainable] == [id(p) for p in model.head.parameters()]


def test_backbone_is_trainable_without_freezing(imagenet: Path) -> None:
    for config in (TRANSFER, replace(TRANSFER, weights=str(imagenet), freeze_backbone=False)):
        model = build_model(config, CPU).train()
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert all(module.training for module in model.modules())


def test_weights_change_id_only_for_models_that_use_them() -> None:
    assert replace(TRANSFER, weights="imagenet").id != TRANSFER.id
    assert RunConfig(weights="none").id == RunConfig().id


def test_missing_imagenet_weights_give_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no server listens there
    with pytest.raises(UserError, match=r"--weights imagenet: resnet18-.*--weights none") as error:
        initial_weights.check_initial_weights(replace(TRANSFER, weights="imagenet"))
    assert "\n" not in str(error.value)


def test_invalid_weights_files_give_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"a": 1}, tmp_path / "number.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    for name, message in (
        ("missing.pt", "No such file"),
        ("text.pt", "not a state dict"),
        ("number.pt", "not a state dict"),
    ):
        with pytest.raises(UserError, match=message):
            initial_weights.check_initial_weights(replace(TRANSFER, weights=str(tmp_path / name)))
    with pytest.raises(UserError, match="do not fit the model: Missing key"):
        build_model(replace(TRANSFER, weights=str(tmp_path / "other.pt")), CPU)


def test_parent_without_continue_is_rejected() -> None:
    with pytest.raises(UserError, match="--continue sets them"):
        initial_weights.check_initial_weights(RunConfig(parent="467eb8d1f4/best_val_acc"))


def test_model_that_cannot_be_built_is_named_before_anything_is_written(
    imagenet: Path, tmp_path: Path
) -> None:
    """Found in training only, it would end the whole set, and leave a run that looks begun."""
    small = RunConfig(
        model_type="cifar10net_4", dataset="cifar10@16", base_dataset_path="synthetic", num_epochs=1
    )
    fits = replace(small, model_type="cifar10net")
    with pytest.raises(UserError, match="leave nothing of images of 16 x 16"):
        run([fits, small], tmp_path / "runs")
    state = torch.load(imagenet, weights_only=True)
    torch.save({**state, "conv1.weight": torch.zeros(64, 3, 3, 3)}, imagenet)
    transfer = replace(TRANSFER, base_dataset_path="synthetic", weights=str(imagenet))
    with pytest.raises(UserError, match="do not fit the model: size mismatch for conv1"):
        run([transfer], tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
