"""Whole-map convolutions match nn.Conv2d, including weight decay of unused (dead) taps."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from src import models
from src.config import RunConfig
from src.cpu.convolutions import replace_convolutions
from src.cpu.whole_map import WholeMapConv2d, count_parameters, decay_dead_taps
from src.data.device_dataset import DeviceDataset, normalization_table
from src.training.trainer import Trainer, TrainerContext


def whole_map_layers(model: nn.Module) -> list[WholeMapConv2d]:
    return [module for module in model.modules() if isinstance(module, WholeMapConv2d)]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [(3, 1, 1, 2), (3, 2, 1, 2), (3, 1, 1, 1), (5, 1, 2, 3), (3, 1, 0, 3), (1, 1, 0, 1)],
)
def test_whole_map_conv_matches_conv2d_outputs_and_gradients(
    kernel: int, stride: int, padding: int, size: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, kernel, stride, padding, bias=kernel != 5)
    replaced = replace_convolutions(nn.Sequential(_Widen(5), copy.deepcopy(conv)), (3, size, size))
    assert len(whole_map_layers(replaced)) == 1
    x = torch.randn(4, 5, size, size)
    plain, ours = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, z = conv(plain), replaced[1](ours)
    assert torch.allclose(y, z, atol=1e-6)
    (y**2).sum().backward()
    (z**2).sum().backward()
    assert torch.allclose(plain.grad, ours.grad, atol=1e-5)  # type: ignore[arg-type]
    module = whole_map_layers(replaced)[0]
    assert conv.weight.grad is not None
    assert module.weight.grad is not None
    assert torch.allclose(module._cut(conv.weight.grad), module.weight.grad, atol=1e-5)
    dead = conv.weight.grad.clone()
    module._cut(dead, copy=False).zero_()
    assert dead.abs().max() == 0


class _Widen(nn.Module):
    """Widen the three channels of the probe's images to the input of the convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.shape[1] == self.channels else x[:, :1].repeat(1, self.channels, 1, 1)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 4, 3, padding=1),  # windows are smaller than the map of 4x4
        nn.Conv2d(3, 3, 9, padding=4, groups=3),
        nn.Conv2d(3, 4, 7, padding=3, padding_mode="reflect"),
        nn.Conv2d(3, 4, 5, padding=8, dilation=4),
        nn.Conv2d(3, 4, 7, padding="same"),
    ],
)
def test_unsuitable_convolutions_are_not_replaced(conv: nn.Conv2d) -> None:
    assert whole_map_layers(replace_convolutions(nn.Sequential(conv), (3, 4, 4))) == []


def test_resnet_state_dict_is_unchanged_by_replacement() -> None:
    torch.manual_seed(0)
    plain = models.create("resnet")
    ours = replace_convolutions(copy.deepcopy(plain))
    assert [len(whole_map_layers(ours)), count_parameters(ours)] == [7, 11_186_442]
    assert sum(module.dead_weights for module in whole_map_layers(ours)) == 6_946_816  # 62 %
    expected, state = plain.state_dict(), ours.state_dict()
    assert list(expected) == list(state)
    assert all(torch.equal(expected[name], state[name]) for name in expected)
    for tensor in state.values():
        tensor.mul_(2)
    again = replace_convolutions(models.create("resnet"))
    again.load_state_dict(state)
    assert all(torch.equal(state[name], again.state_dict()[name]) for name in state)
    plain.load_state_dict(state)
    x = torch.randn(2, 3, 32, 32)
    plain.eval(), again.eval()
    assert torch.allclose(plain(x), again(x), rtol=1e-4, atol=1e-3)


def test_dead_taps_stay_parameters_if_not_excluded() -> None:
    ours = replace_convolutions(models.create("resnet"), dead_taps=False)
    assert [module.dead_weights for module in whole_map_layers(ours)] == [0, 0, 0]
    decay_dead_taps(ours, 0.5)
    assert count_parameters(ours) == 11_186_442


def test_training_matches_network_with_all_taps(
    config: RunConfig, small_data: DeviceDataset
) -> None:
    """Compare with the published network, in which all taps are parameters."""
    run = replace(
        config,
        model_type="resnet",
        precision="float32",
        memory_format="contiguous",
        convolution="direct",
        batch_size=32,
        max_images=96,
        learning_rate=1e-4,
        weight_decay=0.5,
    )
    trainer = Trainer(run, small_data).start()
    torch.manual_seed(run.seed)
    model = models.create("resnet")
    start = model.state_dict()["blocks.7.residual.0.weight"].clone()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.5, amsgrad=True)
    table = normalization_table("imagenet", small_data.dataset.train_images)
    for epoch in range(run.num_epochs):
        for part in trainer.learner.order(epoch).split(32):
            for group in optimizer.param_groups:
                group["lr"] = trainer.learner.lr_at(epoch, 0)
            images, labels = small_data.train.batch(part, table)
            optimizer.zero_grad()
            cross_entropy(model(images.contiguous()), labels).backward()
            optimizer.step()
    while trainer.advance():
        pass
    assert trainer.trained
    ours = trainer.trained.weights["terminal"]
    for name, tensor in model.state_dict().items():
        if name.endswith("weight"):
            moved = (ours[name] - tensor).abs().mean() / tensor.abs().mean()
            assert moved < 0.02, name
    dead = (slice(None), slice(None), 0)
    last = model.state_dict()["blocks.7.residual.0.weight"][dead]
    assert torch.allclose(ours["blocks.7.residual.0.weight"][dead], last, rtol=1e-5)
    assert not torch.allclose(start[dead], last, rtol=1e-5)


def test_resumed_run_with_dead_taps_is_identical(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    run = replace(config, model_type="resnet", batch_size=20, max_images=40, weight_decay=0.1)
    uninterrupted = Trainer(run, small_data).start()
    while uninterrupted.advance():
        pass
    trainer = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    for _ in range(4):  # up to the second epoch
        assert trainer.advance()
    trainer.save()
    resumed = Trainer(run, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    assert (resumed.resumed, resumed.state.epoch) == (True, 1)
    while resumed.advance():
        pass
    assert uninterrupted.trained
    assert resumed.trained
    for name, tensor in uninterrupted.trained.weights["terminal"].items():
        assert torch.equal(tensor, resumed.trained.weights["terminal"][name]), name
