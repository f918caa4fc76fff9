"""What the resume checkpoint of a run holds, and which checkpoint a run may continue from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from src.common.errors import NotTrainedHere
from src.config import RunConfig
from src.data.dataset import other_data
from src.data.device_dataset import DeviceDataset
from src.training import checkpoint
from src.training.compute_format import ComputeFormat
from src.training.device import device_name
from src.training.learner import Learner
from src.training.run_state import RunState

_FORMAT = 2


def content(
    config: RunConfig,
    data: DeviceDataset,
    compute_format: ComputeFormat,
    learner: Learner,
    state: RunState,
) -> dict[str, Any]:
    """All that is needed to continue a run bit for bit."""
    of_learner = learner.state()
    if ended := state.checkpoints.get("terminal"):
        # what is evaluated has since served for evaluations, of whatever weights
        of_learner["averaged" if learner.ema else "model"] = ended.weights
    arithmetic = compute_format.stored()
    fused = arithmetic.pop("fused_norm", False)  # by name, since older code counts the others
    return {
        "format": _FORMAT,
        "id": config.id,
        "device": device_name(data.device),
        "data_digest": data.dataset.digest,
        "arithmetic": list(arithmetic.values()),
        **({"fused_norm": True} if fused else {}),
        "learner": of_learner,
        **state.save(),
    }


def read(folder: Path, config: RunConfig, data: DeviceDataset) -> dict[str, Any] | None:
    """The newest whole checkpoint in a folder. None unless it is of this run and format.

    Raises NotTrainedHere if the run was begun on other data.
    """
    saved = checkpoint.load(folder, data.device)
    if not saved or saved.get("id") != config.id or saved.get("format") != _FORMAT:
        return None
    begun_on = saved.get("data_digest")  # checkpoints of before lack it
    if begun_on not in (None, data.dataset.digest):
        raise NotTrainedHere(other_data(begun_on, data.dataset.digest))
    return saved


def compute_format(saved: dict[str, Any], device: torch.device) -> ComputeFormat | None:
    """The compute format of a checkpoint. None if it was written on another kind of device."""
    if saved["device"] != device_name(device):
        return None
    kept = ComputeFormat(*saved["arithmetic"])
    return replace(kept, fused_norm=saved.get("fused_norm", False))
