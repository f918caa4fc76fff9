"""PyTorch's optimizers, without the import of its compiler."""

import inspect

import torch

_METHODS = ("step", "zero_grad", "add_param_group", "state_dict", "load_state_dict")


def without_dynamo(optimizer_class: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """A subclass of `optimizer_class` that does not import torch._dynamo, which takes two seconds.

    torch wraps the methods of its optimizers to exclude them from compilation, and the wrappers
    import dynamo. No optimizer is compiled here, so the unwrapped methods are called; `step` gets
    the `no_grad` that its wrapper would have added.
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
