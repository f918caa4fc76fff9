"""The optimizers of torch, without what only those need who compile them."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from src.config import RunConfig

_KEPT_FROM_DYNAMO = ("step", "zero_grad", "add_param_group", "state_dict", "load_state_dict")


def without_dynamo(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """`kind`, which does the same, and does not import torch._dynamo, which takes two seconds.

    torch wraps the methods of an optimizer in calls that tell dynamo to leave them out of what it
    compiles, and these import it. Nobody compiles an optimizer here: the methods themselves are
    called, a step without gradients, which the wrapper would see to as well.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _KEPT_FROM_DYNAMO}
    return type(kind.__name__, (kind,), methods | {"step": torch.no_grad()(methods["step"])})


_KINDS = {
    "adamw": without_dynamo(torch.optim.AdamW),
    "adam": without_dynamo(torch.optim.Adam),
    "sgd": without_dynamo(torch.optim.SGD),
}


def build_optimizer(config: RunConfig, model: nn.Module, rate: Tensor) -> torch.optim.Optimizer:
    """The optimizer of a run, fused. It reads its learning rate from `rate` at every step."""
    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    options: dict[str, Any] = {"lr": rate, "weight_decay": config.weight_decay, "fused": True}
    if config.optimizer == "sgd":
        options |= {"momentum": config.momentum, "nesterov": config.nesterov}
    else:
        options |= {"amsgrad": config.amsgrad, "capturable": rate.is_cuda}
    return _KINDS[config.optimizer](learns, **options)
