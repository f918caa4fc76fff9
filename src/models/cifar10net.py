"""Cifar10Net, the small tuned network of which a sweep can afford many."""

from torch import Tensor, nn

from src.models import register
from src.models.classifier import Classifier


@register("cifar10net")
class Cifar10Net(Classifier):
    """201,230 parameters: two unpadded convolutions and two dense layers, all batch-normed."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 20, 3),
            nn.BatchNorm2d(20),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 40, 4),
            nn.BatchNorm2d(40),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(
            nn.Linear(40 * 6 * 6, 124),
            nn.BatchNorm1d(124),
            nn.ReLU(),
            nn.Linear(124, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        x = self.convolutions(x)  # (B, 1440)
        return self.dense(x)  # (B, 64)
