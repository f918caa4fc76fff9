"""Loss and accuracies of many batches, summed on the device and read once."""

import torch
from torch import Tensor

from src.data.dataset import CLASSES

State = dict[str, Tensor]


class Metrics:
    """Sums over images: loss in float64, correct predictions and images per class in int64."""

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros(len(CLASSES), dtype=torch.int64, device=device)
        self.images = torch.zeros(len(CLASSES), dtype=torch.int64, device=device)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: its mean loss, logits (B, 10) and labels (B,). No host synchronisation."""
        hits = (logits.argmax(dim=1) == labels).to(torch.int64)
        self.loss += loss.double() * len(labels)
        self.correct.index_add_(0, labels, hits)
        self.images.index_add_(0, labels, torch.ones_like(labels))

    def state(self) -> State:
        """The sums, to go on from later."""
        return {"loss": self.loss, "correct": self.correct, "images": self.images}

    def load(self, state: State) -> None:
        """Go on from `state`."""
        for name, mine in self.state().items():
            mine.copy_(state[name])

    def running(self) -> tuple[float, float]:
        """Mean loss and accuracy (0 to 1) of the images so far."""
        count = max(1, int(self.images.sum()))
        return self.loss.item() / count, int(self.correct.sum()) / count

    def summary(self, part: str) -> dict[str, float]:
        """loss, accuracy, mean per-class accuracy and that of each class, prefixed by `part`.

        Accuracies are shares from 0 to 1; a class without images has none and is left out.
        """
        loss, accuracy = self.running()
        correct, images = self.correct.tolist(), self.images.tolist()
        per_class = {
            name: hits / count
            for name, hits, count in zip(CLASSES, correct, images, strict=True)
            if count
        }
        return {
            f"{part}_loss": loss,
            f"{part}_accuracy": accuracy,
            f"{part}_per_class_accuracy": sum(per_class.values()) / max(1, len(per_class)),
            **{f"{part}_per_class_accuracy_{name}": share for name, share in per_class.items()},
        }
