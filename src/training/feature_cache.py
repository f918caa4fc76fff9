"""Features of a frozen backbone, computed once for all epochs and cached for later runs."""

import hashlib
import io
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

import numpy as np
import torch
from torch import Tensor, nn

from src.common import files
from src.common.paths import cache_dir, features_file
from src.cpu.compiler import kernels_digest
from src.data.augmentation import Augmentation
from src.data.device_dataset import DeviceImages
from src.models.classifier import Classifier
from src.training.compute_format import ComputeFormat
from src.training.device import device_name
from src.training.evaluation import features_of

KEPT = 4  # number of files


@dataclass(frozen=True)
class CachedFeatures:
    """Penultimate features of images, used in place of the images.

    features (M, F): of the M images in use. rows (N,) int64: row in `features` of each of the N
    images. labels (N,).
    """

    features: Tensor
    rows: Tensor
    labels: Tensor

    def batch(
        self,
        indices: Tensor,
        normalization: Tensor,
        augmentation: Augmentation | None = None,
        epoch: int | Tensor = 0,
    ) -> tuple[Tensor, Tensor]:
        """Features (B, F) and labels (B,) of `indices`; there is nothing to augment."""
        rows = self.rows.index_select(0, indices)
        return self.features.index_select(0, rows), self.labels.index_select(0, indices)


class HeadOnly(Classifier):
    """The head of a model, applied to cached features."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        return x


def features(
    images: DeviceImages,
    indices: Tensor,
    model: Classifier,
    normalization: Tensor,
    compute_format: ComputeFormat,
) -> Generator[object, None, CachedFeatures]:
    """The features of images[indices], from the user's cache folder or computed; yields meanwhile.

    The model is left in eval mode.
    """
    device = indices.device
    key = _key(images, indices, model, normalization, compute_format)
    known = _read(key, len(indices))
    if known is None:
        parts = []
        for part in indices.split(model.evaluation_batch[device.type]):
            parts.append(
                features_of(model.eval(), images, part, normalization, compute_format)[0].float()
            )
            yield None
        known = torch.cat(parts)
        _write(key, known)
    rows = torch.zeros(len(images.labels), dtype=torch.int64, device=device)
    rows[indices] = torch.arange(len(indices), device=device)
    return CachedFeatures(known.to(device), rows, images.labels)


def _key(
    images: DeviceImages,
    indices: Tensor,
    model: Classifier,
    normalization: Tensor,
    compute_format: ComputeFormat,
) -> str:
    """A digest of everything that the features depend on."""
    device = device_name(indices.device)
    kernels = kernels_digest() if indices.device.type == "cpu" else None
    arithmetic = (compute_format, torch.__version__, device, kernels)
    digest = hashlib.sha256(repr(arithmetic).encode())
    parts = {
        "pixels": images.pixels,
        "indices": indices,
        "normalization": normalization,
        **model.state_dict(),
    }
    for name, tensor in parts.items():
        if not name.startswith("head."):
            digest.update(name.encode())
            digest.update(
                tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
            )
    return digest.hexdigest()[:20]


def _read(key: str, count: int) -> Tensor | None:
    try:
        known = np.load(features_file(cache_dir(), key), allow_pickle=False)
    except (OSError, ValueError):
        return None
    return torch.from_numpy(known) if known.ndim == 2 and len(known) == count else None


def _write(key: str, made: Tensor) -> None:
    array = made.cpu().numpy()

    def save(file: IO[bytes]) -> None:
        whole = io.BytesIO()
        np.save(whole, array)
        file.write(whole.getbuffer())

    with suppress(OSError):  # they are then computed again
        path = features_file(cache_dir(), key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(path, save)
        others = sorted(path.parent.glob("*.npy"), key=lambda other: other.stat().st_mtime)
        for old in others[:-KEPT]:
            old.unlink(missing_ok=True)
