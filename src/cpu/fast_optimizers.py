"""PyTorch's optimizers, without the import of its compiler."""

import inspect

import torch

_METHODS = ("step", "zero_grad", "add_param_group", "state_dict", "load_state_dict")


def without_dynamo(optimizer_class: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """A subclass of `kind` that does the same without importing torch._dynamo: two seconds.

    torch wraps the methods of an optimizer so that dynamo leaves them out of what it compiles,
    and the wrappers import it. No optimizer is compiled here: the methods themselves are called,
    `step` without gradients, which its wrapper would ensure as well.
    """
    methods = {name: inspect.unwrap(getattr(optimizer_class, name)) for name in _METHODS}
    return type(
        optimizer_class.__name__,
        (optimizer_class,),
        methods | {"step": torch.no_grad()(methods["step"])},
    )


AdamW = without_dynamo(torch.optim.AdamW)
Adam = without_dynamo(torch.optim.Adam)
SGD = without_dynamo(torch.optim.SGD)
