"""1x1 convolutions of maps of at most 4x4 as matrix products, for CPUs.

For the shortcuts of resnet's last stages the library's convolution takes two to seven times as long
as the same matrix product. The function is the same.
"""

from torch import Tensor, nn
from torch.nn.functional import linear

from src.cpu.conv_properties import MapSize

_MAX_POSITIONS = 16  # of a map; on larger ones the product is no faster


class PointwiseConv2d(nn.Module):
    """A 1x1 convolution of (B, I, H, W) to (B, O, P, Q), for which `is_faster_for` is true.

    It has the parameters of the convolution that it is made of.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.stride = conv.weight, conv.bias, conv.stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) to (B, O, P, Q), channels last."""
        sampled = x[:, :, :: self.stride[0], :: self.stride[1]].permute(0, 2, 3, 1)
        return linear(sampled, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def is_faster_for(conv: nn.Conv2d, input_size: MapSize) -> bool:
    """Whether the product is possible, and faster than the library's convolution."""
    return (
        conv.kernel_size == (1, 1)
        and conv.padding in ((0, 0), "valid")
        and conv.groups == 1
        and input_size[0] * input_size[1] <= _MAX_POSITIONS
    )
