"""Loss and accuracy of many batches, summed on the device and read once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.data.spec import CLASSES

MetricState = dict[str, Tensor]


@dataclass(frozen=True)
class MetricTotals:
    """Sums over images: the loss, and per class the correct predictions and the images."""

    loss: float
    correct: Sequence[int]
    images: Sequence[int]
    classes: Sequence[str]

    @property
    def mean_loss(self) -> float:
        """Mean loss per image."""
        return self.loss / max(1, sum(self.images))

    @property
    def accuracy(self) -> float:
        """Share of correct predictions, 0 to 1."""
        return sum(self.correct) / max(1, sum(self.images))

    @property
    def accuracy_by_class(self) -> dict[str, float]:
        """The accuracy of each class that has images."""
        return {
            name: hits / count
            for name, hits, count in zip(self.classes, self.correct, self.images, strict=True)
            if count
        }

    @property
    def per_class_accuracy(self) -> float:
        """Mean of the accuracies of the classes that have images."""
        by_class = self.accuracy_by_class
        return sum(by_class.values()) / max(1, len(by_class))

    def summary(self, part: str) -> dict[str, float]:
        """loss, accuracy, mean per-class accuracy and that of each class, prefixed by `part`.

        Accuracies are shares from 0 to 1; a class without images has none and is left out.
        """
        name = f"{part}_per_class_accuracy"
        return {
            f"{part}_loss": self.mean_loss,
            f"{part}_accuracy": self.accuracy,
            name: self.per_class_accuracy,
            **{f"{name}_{label}": share for label, share in self.accuracy_by_class.items()},
        }


class Metrics:
    """The sums on a device: loss in float64, counts in int64."""

    def __init__(self, device: torch.device, classes: Sequence[str] = CLASSES) -> None:
        self.classes = classes
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros(len(classes), dtype=torch.int64, device=device)
        self.images = torch.zeros(len(classes), dtype=torch.int64, device=device)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: mean loss, logits (B, classes), labels (B,). No host synchronisation."""
        hits = (logits.argmax(dim=1) == labels).to(torch.int64)
        self.loss += loss.double() * len(labels)
        self.correct.index_add_(0, labels, hits)
        self.images.index_add_(0, labels, torch.ones_like(labels))

    def reset(self) -> None:
        """Set all sums to zero, in place: a captured step writes to these tensors."""
        for sums in self.state().values():
            sums.zero_()

    def state(self) -> MetricState:
        """The sums, for a checkpoint."""
        return {"loss": self.loss, "correct": self.correct, "images": self.images}

    def load(self, state: MetricState) -> None:
        """Restore what `state` returned."""
        for name, mine in self.state().items():
            mine.copy_(state[name])

    def read(self) -> "PendingMetrics":
        """Start copying the current sums to the host."""
        return PendingMetrics(self)


class PendingMetrics:
    """A copy of the sums on its way to the host, readable without waiting once it is `ready`."""

    def __init__(self, metrics: Metrics) -> None:
        on_gpu = metrics.loss.is_cuda
        self._classes = metrics.classes
        self._copies = {
            name: torch.empty_like(sums, device="cpu", pin_memory=on_gpu).copy_(
                sums, non_blocking=True
            )
            for name, sums in metrics.state().items()
        }
        self._event = torch.cuda.Event() if on_gpu else None
        if self._event:
            self._event.record()

    def ready(self) -> bool:
        """Whether the copy has arrived."""
        return self._event is None or self._event.query()

    def totals(self) -> MetricTotals:
        """The sums. Waits for them if they are not ready."""
        if self._event:
            self._event.synchronize()
        numbers: dict[str, Any] = {name: copy.tolist() for name, copy in self._copies.items()}
        return MetricTotals(**numbers, classes=self._classes)
