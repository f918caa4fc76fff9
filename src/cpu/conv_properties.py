"""What the replacements of convolutions ask of a convolution and of its input."""

import torch
from torch import Tensor, nn

MapSize = tuple[int, int]
"""Height and width of feature maps."""


def is_plain_3x3(conv: nn.Conv2d) -> bool:
    """Whether a 3x3 convolution keeps the size of maps: no stride, dilation or groups."""
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == conv.padding == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
    )


def autocast_dtype(x: Tensor, otherwise: torch.dtype) -> torch.dtype:
    """The dtype of autocast on the device of `x` if that is on, else `otherwise`."""
    device_type = x.device.type
    return (
        torch.get_autocast_dtype(device_type)
        if torch.is_autocast_enabled(device_type)
        else otherwise
    )
