"""The optimizer of a run."""

from typing import Any

import torch
from torch import Tensor, nn

from src.config import RunConfig
from src.cpu import fast_optimizers

_FAST = {
    "adamw": fast_optimizers.AdamW,
    "adam": fast_optimizers.Adam,
    "sgd": fast_optimizers.SGD,
}
_DEVICE_SETTINGS = ("capturable", "foreach", "fused", "lr")
"""Settings of a param group that belong to the device. All others belong to the run."""
_PLAIN = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def lr_tensor(device: torch.device) -> Tensor:
    """The tensor from which an optimizer reads its rate. A CPU keeps all digits."""
    # fused CUDA kernels take a float32 rate
    dtype = torch.float32 if device.type == "cuda" else torch.float64
    return torch.zeros((), dtype=dtype, device=device)


def build_optimizer(config: RunConfig, model: nn.Module, lr: Tensor) -> torch.optim.Optimizer:
    """The optimizer of a run, fused. It reads its learning rate from `lr` at every step."""
    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    options: dict[str, Any] = {"lr": lr, "weight_decay": config.weight_decay, "fused": True}
    if config.optimizer == "sgd":
        options |= {"momentum": config.momentum, "nesterov": config.nesterov}
    else:
        options |= {"amsgrad": config.amsgrad, "capturable": lr.is_cuda}
    kinds = _FAST if config.cpu_kernels else _PLAIN
    return kinds[config.optimizer](learns, **options)


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any], lr: Tensor) -> None:
    """Restore what optimizer.state_dict() returned, perhaps on a device of another kind.

    What belongs to the device (_DEVICE_SETTINGS) stays as it is in `optimizer`: with the
    capturable=False of a CPU, torch refuses to capture a step on a GPU.
    """
    groups = [
        {**saved, **{name: current[name] for name in _DEVICE_SETTINGS if name in current}}
        for saved, current in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for group in optimizer.param_groups:
        group["lr"] = lr
