"""Small data sets in the official formats of the built-in ones, with checksums to match."""

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from torchvision import datasets

from src.data import builtin, sizes
from src.data.builtin import BUILT_IN

TRAIN, TEST = 60, 20


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _part(name: str, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images (N, S, S, C) and labels that go through all classes."""
    known = BUILT_IN[name]
    random = np.random.default_rng(count)
    labels = np.arange(count) % len(known.classes)
    images = random.integers(0, 256, (count, size, size, known.channels), np.uint8)
    return images, labels.astype(np.int64)


def _write_cifar100(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for part, count in (("train", TRAIN), ("test", TEST)):
        images, labels = _part("cifar100", count, 32)
        rows = images.transpose(0, 3, 1, 2).reshape(count, -1)
        content = {"data": rows, "fine_labels": labels.tolist(), "coarse_labels": [0] * count}
        (folder / part).write_bytes(pickle.dumps(content, protocol=2))
    names = {"fine_label_names": list(BUILT_IN["cifar100"].classes)}
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=2))
    patch.setattr(datasets.CIFAR100, "train_list", [["train", _md5(folder / "train")]])
    patch.setattr(datasets.CIFAR100, "test_list", [["test", _md5(folder / "test")]])
    meta = {"filename": "meta", "key": "fine_label_names", "md5": _md5(folder / "meta")}
    patch.setattr(datasets.CIFAR100, "meta", meta)


def _write_svhn(folder: Path, patch: pytest.MonkeyPatch) -> None:
    splits = {}
    for part, count in (("train", TRAIN), ("test", TEST)):
        images, labels = _part("svhn", count, 32)
        path = folder / f"{part}_32x32.mat"
        digits = np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)
        scipy.io.savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": digits})
        splits[part] = ["http://127.0.0.1:9/none", path.name, _md5(path)]
    patch.setattr(datasets.SVHN, "split_list", splits)


def _write_idx(name: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def write(folder: Path, patch: pytest.MonkeyPatch) -> None:
        for part, count in (("train", TRAIN), ("t10k", TEST)):
            images, labels = _part(name, count, 28)
            for kind, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels)):
                sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
                header = bytes([0, 0, 8, array.ndim]) + sizes
                path = folder / f"{part}-{kind}-ubyte"
                path.write_bytes(header + array.astype(np.uint8).tobytes())

    return write


def _write_stl10(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for part, count in (("train", TRAIN), ("test", TEST)):
        images, labels = _part("stl10", count, 96)
        (folder / f"{part}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
        (folder / f"{part}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
        files = [f"{part}_X.bin", f"{part}_y.bin"]
        listed = [[file, _md5(folder / file)] for file in files]
        if part == "train":
            listed.append(["unlabeled_X.bin", "0" * 32])  # which nobody needs
        patch.setattr(datasets.STL10, f"{part}_list", listed)


_WRITERS: dict[str, Any] = {
    "cifar100": _write_cifar100,
    "svhn": _write_svhn,
    "mnist": _write_idx("mnist"),
    "fashion_mnist": _write_idx("fashion_mnist"),
    "stl10": _write_stl10,
}
NAMES = tuple(_WRITERS)


def write(name: str, root: Path, patch: pytest.MonkeyPatch) -> Path:
    """Write a small data set under `root`, and let its reader expect it. Returns `root`."""
    folder = root / BUILT_IN[name].folder
    folder.mkdir(parents=True, exist_ok=True)
    _WRITERS[name](folder, patch)
    small = {**BUILT_IN, name: replace(BUILT_IN[name], train=TRAIN, test=TEST)}
    patch.setattr(builtin, "BUILT_IN", small)
    patch.setattr(sizes, "BUILT_IN", small)
    return root


def images_and_labels(name: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """What was written of a part: images (N, S, S, C) and labels (N,)."""
    size = {"mnist": 28, "fashion_mnist": 28, "stl10": 96}.get(name, 32)
    return _part(name, TRAIN if part == "train" else TEST, size)
