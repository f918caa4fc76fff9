"""Metrics, early stopping, precision, batch bounds."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from src.common.errors import UserError
from src.data.dataset import CLASSES
from src.training.device import pick_device
from src.training.early_stopping import EarlyStopping
from src.training.metrics import Metrics
from src.training.model_setup import batch_bounds

CPU = torch.device("cpu")


def test_metrics_are_those_of_all_images_at_once() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(101, 10), torch.randint(0, 9, (101,))  # no truck
    metrics = Metrics(CPU)
    for part in torch.arange(101).split(16):
        metrics.add(cross_entropy(logits[part], labels[part]), logits[part], labels[part])
    hits = logits.argmax(dim=1) == labels
    summary = metrics.read().sums().summary("val")
    assert summary["val_loss"] == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)
    assert summary["val_accuracy"] == pytest.approx(hits.float().mean().item())
    per_class = [hits[labels == c].float().mean().item() for c in range(9)]
    for name, share in zip(CLASSES, per_class, strict=False):
        assert summary[f"val_per_class_accuracy_{name}"] == pytest.approx(share)
    assert "val_per_class_accuracy_truck" not in summary
    assert summary["val_per_class_accuracy"] == pytest.approx(sum(per_class) / 9)


def test_early_stopping_counts_validations_without_a_lower_loss() -> None:
    stopping = EarlyStopping(patience=2)
    gains = [stopping.update(loss) for loss in (1.0, 0.9, 0.9, 0.8, 0.85)]
    assert gains == [True, True, False, True, False]
    assert not stopping.exhausted
    stopping.update(0.8)
    assert stopping.exhausted
    assert stopping.lowest == 0.8
    assert EarlyStopping(1).lowest == math.inf


def test_batches_cover_an_epoch_and_none_holds_one_image() -> None:
    assert batch_bounds(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert batch_bounds(9, 4) == [(0, 4), (4, 9)]
    assert batch_bounds(3, 1) == [(0, 1), (1, 2), (2, 3)]
    assert batch_bounds(1, 4) == [(0, 1)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: nothing to refuse")
def test_a_missing_gpu_is_one_line() -> None:
    with pytest.raises(UserError, match="no usable GPU"):
        pick_device("cuda")
    assert pick_device("auto") == CPU
