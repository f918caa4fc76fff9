"""Split the training images into training and validation."""

import numpy as np

from src.common.errors import UserError
from src.config import RunConfig
from src.data.dataset import Dataset, LabelArray


def split(dataset: Dataset, config: RunConfig) -> tuple[LabelArray, LabelArray]:
    """Indices of the training and of the validation images, each ascending."""
    count = len(dataset.train_labels)
    held_out = np.zeros(count, bool)
    held_out[_validation(dataset, config)] = True
    limit = config.max_images or count
    return np.flatnonzero(~held_out)[:limit], np.flatnonzero(held_out)[:limit]


def check_split(dataset: Dataset, config: RunConfig) -> None:
    """Raise UserError if the validation set would be empty, or leave nothing to train on."""
    count = len(dataset.train_labels)
    if config.val_split == "last_batch" and count < (3 if dataset.last_batch else 5):
        needed = "3" if dataset.last_batch else "5, a fifth of which are for validation"
        raise UserError(f"{dataset.spec.name}: {count} training images; expected at least {needed}")
    if config.val_split != "last_batch" and config.val_size > count - 2:
        raise UserError(
            f"--val_size {config.val_size}: expected at most {count - 2} of {count} training images"
        )
    if config.data_augmentation and config.cutout > dataset.spec.size:
        raise UserError(
            f"--cutout {config.cutout}: expected at most {dataset.spec.size}, the side of an image"
        )
    if config.max_images == 1:
        raise UserError("--max_images 1: expected 0 for all, or at least 2 to normalise a batch")


def validation_size(config: RunConfig, count: int, last_batch: int) -> int:
    """Number of validation images of `count` training images. last_batch: 0 if there is none."""
    return (last_batch or count // 5) if config.val_split == "last_batch" else config.val_size


def _validation(dataset: Dataset, config: RunConfig) -> LabelArray:
    count = len(dataset.train_labels)
    size = validation_size(config, count, dataset.last_batch)
    if config.val_split == "last_batch":
        if dataset.last_batch:
            return np.arange(count - size, count)
        return stratified(dataset.train_labels, size, seed=0)
    if config.val_split == "stratified":
        return stratified(dataset.train_labels, size, config.split_seed)
    return np.random.default_rng(config.split_seed).permutation(count)[:size]


def stratified(labels: LabelArray, size: int, seed: int) -> LabelArray:
    """Indices of `size` images drawn at random, each class in proportion to its share."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return order[_evenly(labels[order])[:size]]


def _evenly(labels: LabelArray) -> LabelArray:
    """Positions ordered so that every prefix holds each class in proportion to its size."""
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(place, kind="stable")
