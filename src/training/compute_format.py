"""How a model computes: precision, memory format and convolution algorithm."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class ComputeFormat:
    """How a model computes: autocast to `precision`, not for float32 and tf32, and `memory_format`.

    convolution: direct, or winograd or columns for the convolutions that these suit (with
    channels_last).
    cudnn_benchmark: whether cuDNN measures its algorithms. fused_norm: whether batch norm,
    activation and max-pool are one operation (with channels_last, on a CPU).
    """

    precision: str
    memory_format: str
    convolution: str = "direct"
    cudnn_benchmark: bool = False
    fused_norm: bool = False

    def stored(self) -> dict[str, Any]:
        """The fields for a file; later ones only where they are not at their default."""
        return {name: value for name, value in asdict(self).items() if value is not False}

    def __str__(self) -> str:
        """In words: bfloat16, channels last, direct, fused norm."""
        parts = [name if value is True else value for name, value in self.stored().items()]
        return ", ".join(parts).replace("_", " ")

    @property
    def dtype(self) -> torch.dtype:
        """The autocast type."""
        return _DTYPES[self.precision]

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which models compute on `device`."""
        return torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32)

    @contextmanager
    def backend_settings(self, device: torch.device) -> Iterator[None]:
        """Set PyTorch's global switches for TF32 and cuDNN, for a whole step: backward reads them.

        Slots of one process may differ in them, so that they are set at every step. A captured
        step keeps those of its capture. The context does nothing on a CPU.
        """
        if device.type != "cuda":
            yield
            return
        backends = torch.backends
        before = (
            backends.cuda.matmul.fp32_precision,
            backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
            backends.cudnn.benchmark,
        )
        products = "tf32" if self.precision == "tf32" else "ieee"
        try:
            _set_backends(products, products, self.cudnn_benchmark)
            yield
        finally:
            _set_backends(*before)

    def to_memory_format(self, batch: Tensor) -> Tensor:
        """A batch of images in the memory format; features (B, F) as they are."""
        return batch.contiguous(memory_format=self.layout) if batch.dim() == 4 else batch

    @property
    def layout(self) -> torch.memory_format:
        """The memory format of images and convolution weights."""
        return _FORMATS[self.memory_format]


def _set_backends(products: str, convolutions: str, benchmark: bool) -> None:
    torch.backends.cuda.matmul.fp32_precision = products
    torch.backends.cudnn.conv.fp32_precision = convolutions  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = benchmark


FLOAT32_CONTIGUOUS = ComputeFormat("float32", "contiguous")
