"""Batch norm with the activation and the 2x2 max-pool that follow it, as one operation for CPUs.

PyTorch reads and writes the whole maps in each of the three, forward and backward: in a network
such as cnn that takes half as long as its convolutions where bfloat16 is native. Here it is two
passes each way (fused_norm.cpp). What is saved is the input alone; the rest is computed anew in the
backward pass. The function is the same; results differ from PyTorch's by rounding, in bfloat16
less than those differ from exact ones, since what batch norm gives is not rounded.
"""

import ctypes
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import gelu, max_pool2d, relu

from src.cpu import compiler

Model = TypeVar("Model", bound=nn.Module)

_LAST = torch.channels_last
_DTYPES = (torch.float32, torch.bfloat16)
_ACTIVATIONS = {"identity": lambda y: y, "relu": relu, "gelu": gelu}
_NUMBERS = {name: number for number, name in enumerate(_ACTIVATIONS)}  # in fused_norm.cpp
_POINTER, _INT, _INDEX = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_FORWARD: list[Any] = [_INT] * 4 + [_POINTER] + [_INDEX] * 4 + [_POINTER] * 2
_FORWARD += [ctypes.c_double] + [_POINTER] * 3
_BACKWARD = [_INT] * 3 + [_POINTER] * 3 + [_INDEX] * 4 + [_POINTER] * 6


def is_available() -> bool:
    """Whether the kernels can be compiled, or are, on this machine."""
    return _library() is not None


def _library() -> ctypes.CDLL | None:
    library = compiler.load("fused_norm")
    if library is not None and library.fused_norm_forward.argtypes is None:
        library.fused_norm_forward.argtypes, library.fused_norm_forward.restype = _FORWARD, None
        library.fused_norm_backward.argtypes, library.fused_norm_backward.restype = _BACKWARD, None
    return library


class FusedNorm(nn.BatchNorm2d):
    """A BatchNorm2d for which `suits` is true, then an activation and, if it pools, MaxPool2d(2).

    It has the parameters and buffers of the batch norm that it is made of. Maps (B, C, H, W) that
    the kernels cannot take, such as those that are not channels last, go through PyTorch's
    operations. It makes no second derivatives.
    """

    def __init__(self, norm: nn.BatchNorm2d, activation: str, *, pools: bool) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            setattr(self, name, buffer)
        self.activation, self.pools = activation, pools
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to maps of the same size, or of half the height and width if it pools."""
        library = _library()
        if library is None or not self._is_fit(x):
            return self._plain(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        moments = torch.empty(4, self.num_features)
        if not self.training:
            moments[0], moments[1] = self.running_mean, self.running_var
        z: Tensor = _FusedNorm.apply(x, self.weight, self.bias, moments, self)
        if self.training:
            self._track(moments, x.numel() // self.num_features)
        return z

    def _is_fit(self, x: Tensor) -> bool:
        """Whether the kernels can take these maps; those of one value a channel have no moments."""
        batch, _, height, width = x.shape
        return (
            x.device.type == "cpu"
            and x.dtype in _DTYPES
            and self.weight.dtype == torch.float32
            and x.is_contiguous(memory_format=_LAST)
            and batch * height * width > 1
            and not (self.pools and (height % 2 or width % 2))
            and (self.training or not torch.is_grad_enabled())
        )

    def _plain(self, x: Tensor) -> Tensor:
        y = _ACTIVATIONS[self.activation](super().forward(x))
        return max_pool2d(y, 2) if self.pools else y

    @torch.no_grad()
    def _track(self, moments: Tensor, count: int) -> None:
        """Move the running moments, as PyTorch does; `count`: values of a channel."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(moments[0], self.momentum)
        self.running_var.lerp_(moments[1] * (count / (count - 1)), self.momentum)


class _FusedNorm(torch.autograd.Function):
    """moments (4, C): mean, biased variance, 1 / deviation and scale; written unless given."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, moments: Tensor, norm: FusedNorm
    ) -> Tensor:
        library = _library()
        assert library
        batch, channels, height, width = x.shape
        places = None
        if norm.pools:
            shape = (batch, channels, height // 2, width // 2)
            z = torch.empty(shape, dtype=x.dtype, memory_format=_LAST)
            places = torch.empty(shape, dtype=torch.uint8, memory_format=_LAST)
        else:
            z = torch.empty_like(x, memory_format=_LAST)
        library.fused_norm_forward(
            *(x.dtype == torch.bfloat16, _NUMBERS[norm.activation], torch.get_num_threads()),
            *(norm.training, x.data_ptr(), batch, height, width, channels),
            *(weight.data_ptr(), bias.data_ptr(), norm.eps, moments.data_ptr(), z.data_ptr()),
            _address(places),
        )
        ctx.save_for_backward(x, bias, moments, places)
        ctx.activation = norm.activation
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        library = _library()
        assert library
        x, bias, moments, places = ctx.saved_tensors
        batch, channels, height, width = x.shape
        grad_output = grad_output.contiguous(memory_format=_LAST)
        grad_input = torch.empty_like(x, memory_format=_LAST)
        grad_y = grad_input if places is None else torch.empty_like(grad_output)
        grad_weight, grad_bias = torch.empty(2, channels)
        library.fused_norm_backward(
            *(x.dtype == torch.bfloat16, _NUMBERS[ctx.activation], torch.get_num_threads()),
            *(
                x.data_ptr(),
                grad_output.data_ptr(),
                _address(places),
                batch,
                height,
                width,
                channels,
            ),
            *(bias.data_ptr(), moments.data_ptr(), grad_y.data_ptr(), grad_input.data_ptr()),
            *(grad_weight.data_ptr(), grad_bias.data_ptr()),
        )
        return grad_input, grad_weight, grad_bias, None, None


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def fuse_norms(model: Model) -> Model:
    """Replace, in place, every batch norm that suits, with the activation and pool that follow.

    These become nn.Identity, so that the names in the state dict stay.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if suits(child):
                setattr(parent, name, _fused(parent, name, child))
    return model


def suits(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether a module is a batch norm with parameters and running moments, as FusedNorm needs."""
    if type(module) is not nn.BatchNorm2d:
        return False
    return module.affine and module.track_running_stats and module.momentum is not None


def _fused(parent: nn.Module, name: str, norm: nn.BatchNorm2d) -> FusedNorm:
    """What takes the place of `norm`; what it includes is taken out of the Sequential."""
    activation, pools = "identity", False
    if isinstance(parent, nn.Sequential):
        place = int(name)
        following = list(parent)[place + 1 : place + 3]
        if following and (fusable := _activation(following[0])):
            activation = fusable
            parent[place + 1] = nn.Identity()
            if len(following) == 2 and _is_halving(following[1]):
                pools = True
                parent[place + 2] = nn.Identity()
    return FusedNorm(norm, activation, pools=pools)


def _activation(module: nn.Module) -> str | None:
    if type(module) is nn.ReLU:
        return "relu"
    return "gelu" if type(module) is nn.GELU and module.approximate == "none" else None


def _is_halving(module: nn.Module) -> bool:
    """Whether a module is MaxPool2d(2)."""
    if type(module) is not nn.MaxPool2d or module.ceil_mode or module.return_indices:
        return False
    settings = (module.kernel_size, module.stride, module.padding, module.dilation)
    pairs = [value if isinstance(value, tuple) else (value, value) for value in settings]
    return pairs == [(2, 2), (2, 2), (0, 0), (1, 1)]
