"""Split of the training images into training and validation."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from src.common.errors import UserError
from src.config import RunConfig
from src.data.dataset import Dataset
from src.data.split import check_split, split


def test_last_batch_is_default_validation_set(small_dataset: Dataset) -> None:
    train, val = split(small_dataset, RunConfig())
    assert train.tolist() == list(range(480))
    assert val.tolist() == list(range(480, 600))


@pytest.mark.parametrize("kind", ["random", "stratified"])
def test_split_has_requested_size_and_no_overlap(small_dataset: Dataset, kind: str) -> None:
    for size in (1, 37, 598):
        train, val = split(small_dataset, RunConfig(val_split=kind, val_size=size))
        assert len(val) == size
        assert sorted([*train, *val]) == list(range(600))


def test_split_depends_on_split_seed_only(small_dataset: Dataset) -> None:
    def chosen(**settings: Any) -> list[int]:
        config = RunConfig(val_split="random", val_size=50, **settings)
        return split(small_dataset, config)[1].tolist()

    assert chosen() == chosen(seed=5)
    assert chosen() != chosen(split_seed=5)


def test_stratified_split_keeps_class_shares(small_dataset: Dataset) -> None:
    _, val = split(small_dataset, RunConfig(val_split="stratified", val_size=200))
    assert np.bincount(small_dataset.train_labels[val]).tolist() == [20] * 10
    _, val = split(small_dataset, RunConfig(val_split="stratified", val_size=205))
    assert set(np.bincount(small_dataset.train_labels[val])) == {20, 21}


def test_max_images_limits_training_and_validation(small_dataset: Dataset) -> None:
    train, val = split(small_dataset, RunConfig(max_images=30))
    assert (len(train), len(val)) == (30, 30)


def test_split_without_validation_images_is_rejected(small_dataset: Dataset) -> None:
    def of(count: int, last_batch: int = 0) -> Dataset:
        labels = small_dataset.train_labels[:count]
        return replace(small_dataset, train_labels=labels, last_batch=last_batch)

    for count in (2, 3, 4):
        with pytest.raises(UserError, match=f"{count} training images; expected at least 5, a"):
            check_split(of(count), RunConfig())
    for dataset, config in (
        (of(5), RunConfig()),
        (of(3, last_batch=1), RunConfig()),
        (of(3), RunConfig(val_split="random", val_size=1)),
    ):
        check_split(dataset, config)
        assert len(split(dataset, config)[1]) == 1


def test_split_without_training_images_is_rejected(small_dataset: Dataset) -> None:
    with pytest.raises(UserError, match="--val_size 599: expected at most 598 of 600"):
        check_split(small_dataset, RunConfig(val_split="random", val_size=599))
    with pytest.raises(UserError, match="--max_images 1: expected 0"):
        check_split(small_dataset, RunConfig(max_images=1))
