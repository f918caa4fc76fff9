"""The only use of project internals by these tests; all else uses public interfaces.

When internals are renamed, only this file of the folder has to change.
"""

from pathlib import Path
from typing import Any

import torch

from src import data
from src.common.errors import Stopped
from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.training.trainer import Trainer, TrainerContext

__all__ = ["Stopped", "resumed_state"]


def resumed_state(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Return the initial state of a run resumed in `folder`, with the keys of a checkpoint."""
    dataset = DeviceDataset.put(data.load(config.base_dataset_path), torch.device("cpu"))
    context = TrainerContext(checkpoint_dir=folder)
    trainer = Trainer(config.canonical(), dataset, context).start()
    state = trainer._checkpoint()
    trainer.stop()
    return state
