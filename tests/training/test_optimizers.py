"""Optimizers match torch's and do not import torch._dynamo."""

import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from src import models
from src.config import RunConfig, model_types
from src.training.optimizers import build_optimizer, load_state
from tests.conftest import RunCommand

CONFIGS = [
    RunConfig(optimizer="adamw", amsgrad=True, weight_decay=0.01),
    RunConfig(optimizer="adam", amsgrad=False, weight_decay=0.01),
    RunConfig(optimizer="sgd", momentum=0.9, nesterov=True, weight_decay=0.01),
]
SLOW_IMPORTS = ("torch._dynamo", "sympy")
TRAIN = f"""
import sys
from src.main import main
assert main(sys.argv[1:]) == 0
print("imports", *(name for name in {SLOW_IMPORTS} if name in sys.modules))
"""
CANDIDATES = f"""
import sys, torch
from src.config import RunConfig
from src.training import precision
for name in sys.argv[1:]:
    precision._candidates(RunConfig(model_type=name, weights="none"), torch.device("cpu"))
    print(name, *(name for name in {SLOW_IMPORTS} if name in sys.modules))
"""


def torch_optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Create the same optimizer with torch.optim."""
    parameters, decay = list(model.parameters()), config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=decay, fused=True
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=0.1, amsgrad=config.amsgrad, weight_decay=decay, fused=True)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.optimizer))
def test_optimizers_match_torch_optimizers(config: RunConfig) -> None:
    torch.manual_seed(0)
    ours = models.create("cifar10net")
    theirs = models.create("cifar10net")
    theirs.load_state_dict(ours.state_dict())
    rate = torch.tensor(0.1, dtype=torch.float64)
    pairs = [(ours, build_optimizer(config, ours, rate)), (theirs, torch_optimizer(config, theirs))]
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    states = []
    for model, optimizer in pairs:
        for _ in range(3):
            optimizer.zero_grad()
            torch.manual_seed(1)  # same dropout masks
            cross_entropy(model(images), labels).backward()
            optimizer.step()
        states.append(optimizer.state_dict())
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name
    assert states[0]["state"]
    torch.testing.assert_close(states[0]["state"], states[1]["state"], rtol=0, atol=0)
    again = build_optimizer(config, ours, rate)
    again.load_state_dict(states[1])
    torch.testing.assert_close(again.state_dict()["state"], states[1]["state"], rtol=0, atol=0)


def test_step_hooks_are_called() -> None:
    """Step hooks, as used by profilers, are called around a step."""
    model = models.create("cifar10net")
    optimizer = build_optimizer(CONFIGS[0], model, torch.tensor(0.1))
    called: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    optimizer.step()
    assert called == ["before", "after"]
    assert type(build_optimizer(CONFIGS[0], model, torch.tensor(0.1))) is type(optimizer)


@pytest.mark.parametrize("model", ["tinyvgg", "resnet"])
def test_training_imports_neither_dynamo_nor_sympy(
    command: RunCommand, tmp_path: Path, model: str
) -> None:
    """These imports would take a third of the start-up time."""
    options = ("-d", "synthetic", "-e", 1, "-b", 64, "--max_images", 64, "--runs", tmp_path)
    done = command("python", "-c", TRAIN, "-m", model, *options, fresh=True)
    assert done.stdout.splitlines()[-1] == "imports"


def test_no_architecture_imports_dynamo_or_sympy(command: RunCommand) -> None:
    """Except models of torchvision, which imports torch._dynamo itself."""
    names = [name for name in model_types() if "transfer" not in name]
    assert len(names) > 10
    assert command("python", "-c", CANDIDATES, *names, fresh=True).stdout.splitlines() == names


@pytest.mark.parametrize("cpu_kernels", [True, False])
@pytest.mark.parametrize("kind", ["adamw", "adam"])
def test_eager_step_before_capture_does_not_warn(
    monkeypatch: pytest.MonkeyPatch, kind: str, cpu_kernels: bool
) -> None:
    """As on a GPU: pytest would turn torch's warning into an error, and each log would show it."""
    config = RunConfig(optimizer=kind, cpu_kernels=cpu_kernels)
    optimizer = build_optimizer(config, nn.Linear(2, 2), torch.tensor(0.1))
    optimizer.param_groups[0]["capturable"] = True
    stream = SimpleNamespace(is_capturing=lambda: False)
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: gpu)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda: stream)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer._accelerator_graph_capture_health_check()
        load_state(optimizer, optimizer.state_dict(), torch.tensor(0.1))
        optimizer._accelerator_graph_capture_health_check()


@pytest.mark.parametrize(("saved_on_gpu", "loaded_on_gpu"), [(False, True), (True, False)])
@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_state_of_another_device_keeps_settings_of_this_one(
    kind: str, saved_on_gpu: bool, loaded_on_gpu: bool
) -> None:
    """A GPU's optimizer is capturable and reads a float32 rate; a CPU's is not."""

    def make(on_gpu: bool, decay: float) -> tuple[torch.optim.Optimizer, torch.Tensor]:
        rate = torch.tensor(0.1, dtype=torch.float32 if on_gpu else torch.float64)
        config = RunConfig(optimizer=kind, weight_decay=decay)
        optimizer = build_optimizer(config, nn.Linear(2, 2), rate)
        for group in optimizer.param_groups if kind != "sgd" else []:
            group["capturable"] = on_gpu
        return optimizer, rate

    saved, _ = make(saved_on_gpu, 0.5)
    loaded, rate = make(loaded_on_gpu, 0.1)
    load_state(loaded, saved.state_dict(), rate)
    [group] = loaded.param_groups
    assert group["lr"] is rate
    assert group.get("capturable", loaded_on_gpu) is loaded_on_gpu
    assert group["fused"] is True
    assert group["weight_decay"] == 0.5, "a setting of the run"
