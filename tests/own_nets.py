"""Source texts of small architectures of a person's own, and what makes runs of them fast."""

from pathlib import Path
from typing import Any

from src.config import RunConfig, with_digests

SMALL = '''"""Small networks."""

import torch
from torch import nn


class SmallNet(nn.Module):
    def __init__(self, num_classes, width: int = 4, drop: float = 0.1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=4),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.drop = drop
        self.last = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        return self.last(nn.functional.dropout(self.body(x), self.drop, self.training))
'''
"""It draws without a module of dropout, and has no penultimate features."""

CLASSIFIER = """
from torch import nn

from src.models.classifier import Classifier


class Featured(Classifier):
    def __init__(self, num_classes=10, in_channels=3, image_size=32):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, 4, image_size // 2), nn.Flatten())
        self.head = nn.LazyLinear(num_classes)

    def features(self, x):
        return self.body(x)
"""

FAST: dict[str, Any] = {
    **{"base_dataset_path": "synthetic", "num_epochs": 2, "batch_size": 25, "max_images": 100},
    **{"learning_rate": 0.01, "precision": "float32", "memory_format": "contiguous"},
    **{"convolution": "direct", "device": "cpu"},
}
"""Settings of a run that takes a fraction of a second, without a measurement of its arithmetic."""


def write(folder: Path, text: str = SMALL, name: str = "my_nets.py") -> Path:
    """Write a source file."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def own_run(model: str = "my_nets.py:SmallNet", **settings: Any) -> RunConfig:
    """Return a run of an architecture that is named, with its digest."""
    [config] = with_digests([RunConfig(**{**FAST, "model_type": model, **settings})])
    return config
