"""The workload of all arms: configurations, and as many images as CIFAR-10 has."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from src.common.errors import UserError
from src.config import RunConfig, field_names, model_types
from src.data import synthetic
from src.data.dataset import Dataset

BATCHES = {"cnn": 64, "resnet": 256, "vit": 16, "cifar10net": 128, "tinyvgg": 64}
"""Batch sizes on a CPU."""

GPU_BATCHES = {**BATCHES, "cnn": 256, "vit": 256}
"""Batch sizes on a GPU, as in the published sweep."""

_ENDLESS = 1_000_000  # epochs, so that no validation and no end of a run is measured
_OWN_SETTINGS = {"tinyvgg": {"batch_norm": True}}


def run_config(model: str, batch: int, **settings: object) -> RunConfig:
    """Return an endless run with augmentation; settings unknown to this version are ignored."""
    all_settings = {**_OWN_SETTINGS.get(model, {}), **settings}
    known = {name: value for name, value in all_settings.items() if name in field_names()}
    return RunConfig(
        base_dataset_path="synthetic",
        model_type=model,
        batch_size=batch,
        data_augmentation=True,
        num_epochs=_ENDLESS,
        val_freq=_ENDLESS,
        **known,  # type: ignore[arg-type]  # checked by RunConfig
    )


@cache
def images(train: int = 50_000) -> Dataset:
    """Return the synthetic data set, repeated to `train` images, a fifth for validation."""
    part = synthetic.generate(train=min(train, synthetic.TRAIN_IMAGES), test=200)
    times = -(-train // len(part.train_images))
    return replace(
        part,
        train_pixels=np.concatenate([part.train_pixels] * times)[:train],
        train_labels=np.concatenate([part.train_labels] * times)[:train],
        last_batch=train // 5,
    )


def known_models(names: Sequence[str] | None) -> list[str]:
    """Return `names`, or all models with a batch size. Raises UserError for an unknown name."""
    for name in names or ():
        if name not in BATCHES or name not in model_types():
            known = ", ".join(known_models(None))
            raise UserError(f"--models {name!r}: expected some of {known}")
    return list(names or [name for name in BATCHES if name in model_types()])
