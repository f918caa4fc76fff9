"""A model's metrics and predictions on a set of images."""

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from src.data.device_dataset import Batches
from src.models.classifier import Classifier
from src.training.metrics import Metrics, Sums
from src.training.precision import Arithmetic

BATCH = {"cpu": 250, "cuda": 2000}
"""Images that are evaluated at a time."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics, and for each of N images the logits (N, 10) and features (N, F), on the device."""

    sums: Sums
    logits: Tensor
    features: Tensor


def evaluate(
    model: Classifier, images: Batches, samples: Tensor, table: Tensor, arithmetic: Arithmetic
) -> Generator[None, None, Evaluation]:
    """Evaluate `model` on images[samples] as it is in eval mode; yields between batches.

    table: from data.resident.normalization_table. The model is left in eval mode.
    """
    device = samples.device
    metrics = Metrics(device)
    logits: list[Tensor] = []
    features: list[Tensor] = []
    model.eval()
    for part in samples.split(BATCH[device.type]):
        if logits:
            yield
        logit, feature = evaluate_batch(model, images, part, table, arithmetic, metrics)
        logits.append(logit)
        features.append(feature)
    reading = metrics.read()
    while not reading.ready():
        yield
    return Evaluation(reading.sums(), torch.cat(logits), torch.cat(features))


@torch.no_grad()
def evaluate_batch(
    model: Classifier,
    images: Batches,
    samples: Tensor,
    table: Tensor,
    arithmetic: Arithmetic,
    metrics: Metrics,
) -> tuple[Tensor, Tensor]:
    """Logits (B, 10) and features (B, F) of images[samples], which are counted in `metrics`."""
    feature, labels = features_of(model, images, samples, table, arithmetic)
    with arithmetic.autocast(samples.device):
        logit = model.head(feature).float()
    metrics.add(cross_entropy(logit, labels), logit, labels)
    return logit, feature


@torch.no_grad()
def features_of(
    model: Classifier, images: Batches, samples: Tensor, table: Tensor, arithmetic: Arithmetic
) -> tuple[Tensor, Tensor]:
    """Features (B, F) and labels (B,) of images[samples]."""
    batch, labels = images.batch(samples, table)
    with arithmetic.autocast(samples.device):
        return model.features(arithmetic.laid_out(batch)), labels
