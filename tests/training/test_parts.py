"""Metrics, early stopping, batch bounds, choice of the device."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from src.common.errors import UserError
from src.data.spec import CLASSES
from src.training.device import driver_version, pick_device
from src.training.early_stopping import EarlyStopping
from src.training.metrics import Metrics
from src.training.model_setup import batch_bounds

CPU = torch.device("cpu")


def test_metrics_of_batches_equal_metrics_of_all_images() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(101, 10), torch.randint(0, 9, (101,))  # no image of class truck
    metrics = Metrics(CPU)
    for part in torch.arange(101).split(16):
        metrics.add(cross_entropy(logits[part], labels[part]), logits[part], labels[part])
    correct = logits.argmax(dim=1) == labels
    summary = metrics.read().totals().summary("val")
    assert summary["val_loss"] == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)
    assert summary["val_accuracy"] == pytest.approx(correct.float().mean().item())
    per_class = [correct[labels == c].float().mean().item() for c in range(9)]
    for name, share in zip(CLASSES, per_class, strict=False):
        assert summary[f"val_per_class_accuracy_{name}"] == pytest.approx(share)
    assert "val_per_class_accuracy_truck" not in summary
    assert summary["val_per_class_accuracy"] == pytest.approx(sum(per_class) / 9)


def test_early_stopping_counts_validations_without_lower_loss() -> None:
    stopping = EarlyStopping(patience=2)
    improved = [stopping.update(loss) for loss in (1.0, 0.9, 0.9, 0.8, 0.85)]
    assert improved == [True, True, False, True, False]
    assert not stopping.exhausted
    stopping.update(0.8)
    assert stopping.exhausted
    assert stopping.best_loss == 0.8
    assert EarlyStopping(1).best_loss == math.inf


def test_batch_bounds_cover_epoch_without_single_image_remainder() -> None:
    assert batch_bounds(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert batch_bounds(9, 4) == [(0, 4), (4, 9)]
    assert batch_bounds(3, 1) == [(0, 1), (1, 2), (2, 3)]
    assert batch_bounds(1, 4) == [(0, 1)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: nothing to refuse")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22", "550.54.14"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Re", "580.65.06"),
        ("something else 1.2", None),
    ],
)
def test_driver_version_is_read(text: str, expected: str | None) -> None:
    assert driver_version(text).get("driver") == expected


def test_missing_gpu_gives_one_line_error() -> None:
    with pytest.raises(UserError, match="no usable GPU"):
        pick_device("cuda")
    assert pick_device("auto") == CPU
