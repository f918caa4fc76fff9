"""Read predictions.npz: what a finished run predicted for the test images."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from src.common.errors import UserError, one_line
from src.common.file_retries import retry_read
from src.common.paths import PREDICTIONS
from src.common.removed_files import why_removed
from src.data.dataset import LabelArray
from src.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from src.training.evaluation import Evaluation

Integers = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]

_FEATURES = "features"


@dataclass(frozen=True)
class Predictions:
    """Of N images and K classes: labels (N,), predictions, probabilities (N, K), features."""

    labels: Integers
    predictions: Integers
    probabilities: Float32Array
    features: Float32Array
    """Activations of the penultimate layer."""

    @property
    def is_correct(self) -> npt.NDArray[np.bool_]:
        """(N,): whether each prediction equals the label."""
        return self.labels == self.predictions

    @property
    def confidence(self) -> Float32Array:
        """(N,): the probability of each prediction."""
        confidence: Float32Array = self.probabilities[np.arange(len(self.labels)), self.predictions]
        return confidence

    def summary(self, data_name: str) -> str:
        """The number of images and the accuracy, in words."""
        accuracy = self.is_correct.mean()
        return f"{len(self.labels):,} test images of {data_name}, {accuracy:.2%} of them right"

    def take(self, indices: Integers) -> "Predictions":
        """The images at `indices`, in that order."""
        return Predictions(
            labels=self.labels[indices],
            predictions=self.predictions[indices],
            probabilities=self.probabilities[indices],
            features=self.features[indices],
        )


def from_evaluation(labels: LabelArray, evaluation: "Evaluation") -> Predictions:
    """The predictions of an evaluation on images with `labels` (N,)."""
    logits = evaluation.logits.cpu()
    return Predictions(
        labels=labels,
        predictions=logits.argmax(dim=1).numpy(),
        probabilities=logits.softmax(dim=1).numpy(),
        features=evaluation.features.float().cpu().numpy(),
    )


def read(folder: RunFolder, *, features: bool = True) -> Predictions:
    """The predictions of a run on its test images, in the order of the data set.

    features: whether to read the features, which are most of the file; else they are (N, 0).
    Raises UserError if the file does not exist or is damaged.
    """
    path = folder.path / PREDICTIONS
    try:
        arrays = retry_read(lambda: _arrays(path, features=features))
    except FileNotFoundError:
        why = why_removed(path) or f"the run is {folder.state()}"
        raise UserError(f"{folder.path}: no {PREDICTIONS} ({why})") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not the predictions of a run: {one_line(error)}") from None
    if not _is_consistent(arrays):
        raise UserError(f"{path}: not the predictions of a run: arrays do not fit each other")
    return Predictions(
        labels=arrays["labels"].astype(np.int64),
        predictions=arrays["predictions"].astype(np.int64),
        probabilities=arrays["probabilities"].astype(np.float32),
        features=arrays["features"].astype(np.float32),
    )


def _arrays(path: Path, *, features: bool) -> dict[str, npt.NDArray[Any]]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in Predictions.__annotations__ if name != _FEATURES}
        empty = np.empty((arrays["labels"].size, 0))
        arrays[_FEATURES] = stored[_FEATURES] if features else empty
    return arrays


def _is_consistent(arrays: dict[str, npt.NDArray[Any]]) -> bool:
    """Whether shapes fit each other and every class index has a probability."""
    count, features = arrays["labels"].size, arrays["features"]
    if arrays["probabilities"].ndim != 2:
        return False
    classes = arrays["probabilities"].shape[1]
    return (
        count > 0
        and all(arrays[name].shape == (count,) for name in ("labels", "predictions"))
        and all(arrays[name].min() >= 0 for name in ("labels", "predictions"))
        and all(arrays[name].max() < classes for name in ("labels", "predictions"))
        and len(arrays["probabilities"]) == count
        and features.ndim == 2
        and len(features) == count
    )
