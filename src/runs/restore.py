"""Load trained models from disk, and evaluate them."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from src import data, models
from src.common import paths
from src.common.data_names import default_dataset_path
from src.common.errors import UserError
from src.common.removed_files import why_removed
from src.config import CHECKPOINT_KINDS, RunConfig, from_mapping
from src.data.dataset import Dataset
from src.data.device_dataset import DeviceImages, is_measured, normalization_table
from src.data.spec import DataSpec
from src.data.split import split
from src.models.state_dicts import load_into, read_state
from src.runs.run_folder import RunFolder
from src.training.compute_format import FLOAT32_CONTIGUOUS, ComputeFormat
from src.training.device import has_fast_bfloat16, has_fast_float16, has_tf32, pick_device
from src.training.evaluation import Evaluation, evaluate
from src.training.model_setup import prepare_model

T = TypeVar("T")


@dataclass(frozen=True)
class SavedModel:
    """A weights file, and the settings of the model that it belongs to."""

    config: RunConfig
    weights: Path
    result: dict[str, Any] | None = None
    """The content of result.json, if the weights are those of a finished run."""

    @property
    def stem(self) -> str:
        """Prefix of the names of files about it: model and run id, or the name of the file."""
        kind = self.weights.stem
        if self.result is None:
            return kind
        run = f"{self.config.model_name}-{self.config.id}"
        return run if kind == CHECKPOINT_KINDS[0] else f"{run}_{kind}"

    def on(self, device: str) -> "SavedModel":
        """The same model, to be evaluated on a device: auto, cpu or cuda."""
        return replace(self, config=replace(self.config, device=device))


def of_run(path: Path) -> SavedModel:
    """The weights of a run, given its folder (best_val_acc.pt in it) or a .pt file in it.

    Raises UserError if there are none, or if there is no config.json beside them.
    """
    folder = RunFolder(path if path.is_dir() else path.parent)
    if not path.exists():
        raise UserError(f"{path}: {why_removed(path) or 'no such file or folder'}")
    values = folder.config()
    if values is None:
        raise UserError(f"{path}: no {paths.CONFIG} beside the weights; --model_type names a model")
    weights = path / paths.weights(CHECKPOINT_KINDS[0]) if path.is_dir() else path
    if not weights.exists():
        why = why_removed(weights) or _why_no_weights(folder, values)
        raise UserError(f"{path}: no {weights.name} in it: {why}")
    return SavedModel(from_mapping(values, str(folder.path)), weights, folder.result())


def _why_no_weights(folder: RunFolder, values: dict[str, Any]) -> str:
    if folder.result() is None:
        return f"the run is {folder.state()}"
    return f"it was trained with --keep_checkpoints {values.get('keep_checkpoints')}"


def data_path(config: RunConfig) -> str:
    """The data path of a run, or the default one if that does not exist on this machine."""
    path = config.base_dataset_path
    return path if data.is_here(path) else default_dataset_path(config.dataset)


def load_data(saved: SavedModel, path: str | None = None) -> Dataset:
    """The data that a model was trained on, from `path` or from where `data_path` says.

    Raises UserError if it is not there, or if it has changed since the training.
    """
    path = path or data_path(saved.config)
    dataset = data.load(path, saved.config.dataset)
    trained_on = (saved.result or {}).get("data_digest")  # results of before lack it
    if trained_on not in (None, dataset.digest):
        raise UserError(
            f"{saved.weights}: trained on data {trained_on}, and the data in {path!r} is "
            f"{dataset.digest}; expected the data that it was trained on"
        )
    return dataset


def normalization_of(config: RunConfig, spec: DataSpec, dataset: Dataset | None) -> torch.Tensor:
    """The normalisation table (C, 256) that a run was trained with.

    dataset: that of the run; needed if the statistics were measured on its training split.
    """
    if not is_measured(config.normalization, spec.channels):
        no_images = np.empty((0, spec.size, spec.size, spec.channels), np.uint8)
        return normalization_table(config.normalization, no_images)
    assert dataset is not None
    training, _ = split(dataset, config)
    return normalization_table(config.normalization, dataset.train_images[training])


def evaluate_saved(
    saved: SavedModel,
    images: DeviceImages,
    indices: torch.Tensor,
    normalization: torch.Tensor,
    spec: DataSpec,
) -> Evaluation:
    """Evaluate saved weights on images[indices], which are on `device_of(saved)`.

    spec: what the model was made for.

    On the machine and with the number of threads of the training, the test images give the
    published numbers bit for bit. Raises UserError if the weights do not fit the model.
    """
    config, device = saved.config, device_of(saved)
    compute_format = _compute_format(saved.result, device)
    model = models.build(config, spec)
    load_into(model, read_state(saved.weights), f"{saved.weights}: not of {config.model_name}")
    model = prepare_model(model, config, device, compute_format, spec)
    work = evaluate(model, images, indices, normalization.to(device), compute_format, spec.classes)
    return _exhaust(work)


def device_of(saved: SavedModel) -> torch.device:
    """The device on which a saved model is evaluated."""
    return pick_device(saved.config.device)


def _compute_format(result: dict[str, Any] | None, device: torch.device) -> ComputeFormat:
    """That of the training, or float32 if it is unknown or not native on this device."""
    native = {
        "float32": True,
        "tf32": has_tf32(device),
        "bfloat16": has_fast_bfloat16(device),
        "float16": has_fast_float16(device),
    }
    if result and native.get(result["precision"]):
        convolution = result.get("convolution", "direct")  # results from before the choice lack it
        kept = ("cudnn_benchmark", "fused_norm")
        switches = {name: result.get(name, False) for name in kept}
        parts = (result["precision"], result["memory_format"], convolution)
        return ComputeFormat(*parts, **switches)
    return FLOAT32_CONTIGUOUS


def _exhaust(work: Generator[object, None, T]) -> T:
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
