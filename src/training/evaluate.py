"""A model's metrics and predictions on a set of images."""

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from src.data.resident import Images
from src.models.classifier import Classifier
from src.training.metrics import Metrics

_BATCH = {"cpu": 250, "cuda": 2000}


@dataclass(frozen=True)
class Evaluation:
    """Metrics, and for each of N images the logits (N, 10) and features (N, F), on the device."""

    metrics: Metrics
    logits: Tensor
    features: Tensor


def evaluate(
    model: Classifier, images: Images, samples: Tensor, table: Tensor, dtype: torch.dtype
) -> Generator[None, None, Evaluation]:
    """Evaluate `model` on images[samples] as it is in eval mode; yields between batches.

    table: from data.resident.normalization_table. The model is left in eval mode.
    """
    device = samples.device
    metrics = Metrics(device)
    logits: list[Tensor] = []
    features: list[Tensor] = []
    model.eval()
    for part in samples.split(_BATCH[device.type]):
        if logits:
            yield
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            batch, labels = images.batch(part, table)
            feature = model.features(batch)
            logit = model.head(feature).float()
        metrics.add(cross_entropy(logit, labels), logit, labels)
        logits.append(logit)
        features.append(feature)
    return Evaluation(metrics, torch.cat(logits), torch.cat(features))
