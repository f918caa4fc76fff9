"""All that these tests ask of the inside of the project; the rest goes by what is public.

A part that is renamed is renamed here, and nowhere else in this folder.
"""

from pathlib import Path
from typing import Any

import torch

from src import data
from src.config import RunConfig
from src.data.resident import ResidentData
from src.errors import Stopped
from src.training.trainer import Trainer

__all__ = ["Stopped", "opened"]


def opened(config: RunConfig, folder: Path) -> dict[str, Any]:
    """What a run that goes on in `folder` begins with, named as in a resume checkpoint."""
    resident = ResidentData.put(data.load(config.base_dataset_path), torch.device("cpu"))
    trainer = Trainer(config.canonical(), resident, folder=folder)
    state = trainer._state()
    trainer.close()
    return state
