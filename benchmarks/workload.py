"""What every arm trains: configs, and images in CIFAR-10's number."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from src.common.errors import UserError
from src.config import RunConfig, field_names, model_types
from src.data import synthetic
from src.data.dataset import Dataset

BATCHES = {"cnn": 64, "resnet": 256, "vit": 16, "cifar10net": 128, "tinyvgg": 64}
"""Images a step on a CPU."""

GPU_BATCHES = {**BATCHES, "cnn": 256, "vit": 256}
"""Images a step on a GPU: those of the published sweep."""

_NEVER = 1_000_000  # epochs: neither a validation nor the end of the run falls into a measurement
_OWN_SETTINGS = {"tinyvgg": {"batch_norm": True}}


def run_config(model: str, batch: int, **settings: object) -> RunConfig:
    """An augmented run without end; settings that this version does not know are left out."""
    wanted = {**_OWN_SETTINGS.get(model, {}), **settings}
    known = {name: value for name, value in wanted.items() if name in field_names()}
    return RunConfig(
        base_dataset_path="synthetic",
        model_type=model,
        batch_size=batch,
        data_augmentation=True,
        num_epochs=_NEVER,
        val_freq=_NEVER,
        **known,  # type: ignore[arg-type]  # checked by RunConfig
    )


@cache
def images(train: int = 50_000) -> Dataset:
    """The stand-in, repeated up to `train` training images: a fifth of them for validation."""
    part = synthetic.generate(train=min(train, synthetic.TRAIN_IMAGES), test=200)
    times = -(-train // len(part.train_images))
    return replace(
        part,
        train_pixels=np.concatenate([part.train_pixels] * times)[:train],
        train_labels=np.concatenate([part.train_labels] * times)[:train],
        last_batch=train // 5,
    )


def known_models(names: Sequence[str] | None) -> list[str]:
    """`names`, or all that there are numbers of images for. Raises UserError for one unknown."""
    for name in names or ():
        if name not in BATCHES or name not in model_types():
            known = ", ".join(known_models(None))
            raise UserError(f"--models {name!r}: expected some of {known}")
    return list(names or [name for name in BATCHES if name in model_types()])
