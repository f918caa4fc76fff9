"""All that these tests ask of the inside of the project; the rest goes by what is public.

A part that is renamed is renamed here, and nowhere else in this folder.
"""

from pathlib import Path
from typing import Any

import torch

from src import data
from src.common.errors import Stopped
from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.training.trainer import Trainer, TrainerContext

__all__ = ["Stopped", "opened"]


def opened(config: RunConfig, folder: Path) -> dict[str, Any]:
    """What a run that goes on in `folder` begins with, named as in a resume checkpoint."""
    dataset = DeviceDataset.put(data.load(config.base_dataset_path), torch.device("cpu"))
    context = TrainerContext(checkpoint_dir=folder)
    trainer = Trainer(config.canonical(), dataset, context).start()
    state = trainer._checkpoint()
    trainer.stop()
    return state
