"""A model together with the normalisation of its images."""

import torch
from torch import Tensor, nn


class Preprocessed(nn.Module):
    """RGB or grey images (B, C, S, S) uint8 to logits (B, K).

    table: (C, 256) float32, the normalised value of each byte of each channel, as in training.
    """

    table: Tensor

    def __init__(self, table: Tensor, model: nn.Module) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        planes = [
            self.table[channel][images[:, channel].long()] for channel in range(len(self.table))
        ]
        logits: Tensor = self.model(torch.stack(planes, dim=1))
        return logits
