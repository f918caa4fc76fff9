"""Which images validate."""

from typing import Any

import numpy as np
import pytest

from src.common.errors import UserError
from src.config import RunConfig
from src.data.dataset import Dataset
from src.data.split import check_split, split


def test_the_last_batch_validates_by_default(small_dataset: Dataset) -> None:
    train, val = split(small_dataset, RunConfig())
    assert train.tolist() == list(range(480))
    assert val.tolist() == list(range(480, 600))


@pytest.mark.parametrize("kind", ["random", "stratified"])
def test_a_share_of_any_size(small_dataset: Dataset, kind: str) -> None:
    for size in (1, 37, 598):
        train, val = split(small_dataset, RunConfig(val_split=kind, val_size=size))
        assert len(val) == size
        assert sorted([*train, *val]) == list(range(600))


def test_the_seed_of_the_split_decides(small_dataset: Dataset) -> None:
    def chosen(**settings: Any) -> list[int]:
        config = RunConfig(val_split="random", val_size=50, **settings)
        return split(small_dataset, config)[1].tolist()

    assert chosen() == chosen(seed=5)
    assert chosen() != chosen(split_seed=5)


def test_a_stratified_split_keeps_the_shares(small_dataset: Dataset) -> None:
    _, val = split(small_dataset, RunConfig(val_split="stratified", val_size=200))
    assert np.bincount(small_dataset.train_labels[val]).tolist() == [20] * 10
    _, val = split(small_dataset, RunConfig(val_split="stratified", val_size=205))
    assert set(np.bincount(small_dataset.train_labels[val])) == {20, 21}


def test_max_images_limits_both_parts(small_dataset: Dataset) -> None:
    train, val = split(small_dataset, RunConfig(max_images=30))
    assert (len(train), len(val)) == (30, 30)


def test_nothing_to_train_on_is_refused(small_dataset: Dataset) -> None:
    with pytest.raises(UserError, match="--val_size 599: expected at most 598 of 600"):
        check_split(small_dataset, RunConfig(val_split="random", val_size=599))
    with pytest.raises(UserError, match="--max_images 1: expected 0"):
        check_split(small_dataset, RunConfig(max_images=1))
