"""Evaluate a model on a set of images: metrics, logits and features."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from src.data.device_dataset import BatchSource
from src.models.classifier import Classifier
from src.training.compute_format import ComputeFormat
from src.training.cuda_graphs import WAITING
from src.training.metrics import Metrics, MetricTotals


@dataclass(frozen=True)
class Evaluation:
    """Metrics, and of N images the logits (N, classes) and features (N, F), on the device.

    F is 0 for models without features.
    """

    totals: MetricTotals
    logits: Tensor
    features: Tensor


def evaluate(
    model: Classifier,
    images: BatchSource,
    indices: Tensor,
    normalization: Tensor,
    compute_format: ComputeFormat,
    classes: Sequence[str],
) -> Generator[object, None, Evaluation]:
    """Evaluate `model` on images[indices] as it is in eval mode; yields between batches.

    normalization: from `normalization_table`. classes: in the order of the labels. The model is
    left in eval mode.
    """
    device = indices.device
    metrics = Metrics(device, classes)
    logits: list[Tensor] = []
    features: list[Tensor] = []
    model.eval()
    for part in indices.split(model.evaluation_batch[device.type]):
        if logits:
            yield None
        logit, feature = evaluate_batch(model, images, part, normalization, compute_format, metrics)
        logits.append(logit)
        features.append(feature if model.has_features else feature[:, :0])
    reading = metrics.read()
    while not reading.ready():
        yield WAITING
    return Evaluation(reading.totals(), torch.cat(logits), torch.cat(features))


@torch.no_grad()
def evaluate_batch(
    model: Classifier,
    images: BatchSource,
    indices: Tensor,
    normalization: Tensor,
    compute_format: ComputeFormat,
    metrics: Metrics,
) -> tuple[Tensor, Tensor]:
    """Logits (B, classes) and features (B, F) of images[indices]; adds the batch to `metrics`."""
    feature, labels = features_of(model, images, indices, normalization, compute_format)
    device = indices.device
    with compute_format.backend_settings(device), compute_format.autocast(device):
        logit = model.head(feature).float()
    metrics.add(cross_entropy(logit, labels), logit, labels)
    return logit, feature


@torch.no_grad()
def features_of(
    model: Classifier,
    images: BatchSource,
    indices: Tensor,
    normalization: Tensor,
    compute_format: ComputeFormat,
) -> tuple[Tensor, Tensor]:
    """Features (B, F) and labels (B,) of images[indices]."""
    batch, labels = images.batch(indices, normalization)
    device = indices.device
    with compute_format.backend_settings(device), compute_format.autocast(device):
        return model.features(compute_format.to_memory_format(batch)), labels
