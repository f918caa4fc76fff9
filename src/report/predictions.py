"""What a finished run said of the test images, as its predictions.npz tells."""

import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from src.common.errors import UserError
from src.common.paths import PREDICTIONS
from src.data.dataset import CLASSES, LabelArray
from src.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from src.training.evaluation import Evaluation

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_LAST = "features"


@dataclass(frozen=True)
class Predictions:
    """Of N images: labels and predictions (N,), probabilities (N, 10), features (N, F)."""

    labels: Integers
    predictions: Integers
    probabilities: Floats
    features: Floats

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """(N,): whether each prediction is the label."""
        return self.labels == self.predictions

    @property
    def confidence(self) -> Floats:
        """(N,): the probability of each prediction."""
        confidence: Floats = self.probabilities[np.arange(len(self.labels)), self.predictions]
        return confidence

    def in_words(self, data: str) -> str:
        """How many images of `data` there are, and how many of them are right."""
        return f"{len(self.labels):,} test images of {data}, {self.right.mean():.2%} of them right"

    def at(self, places: Integers) -> "Predictions":
        """The images at `places`, in that order."""
        arrays = (getattr(self, name)[places] for name in Predictions.__annotations__)
        return Predictions(*arrays)


def of_evaluation(labels: LabelArray, found: "Evaluation") -> Predictions:
    """What an evaluation said of images with `labels` (N,)."""
    logits = found.logits.cpu()
    return Predictions(
        labels=labels,
        predictions=logits.argmax(dim=1).numpy(),
        probabilities=logits.softmax(dim=1).numpy(),
        features=found.features.float().cpu().numpy(),
    )


def read(folder: RunFolder, *, features: bool = True) -> Predictions:
    """The predictions of a run on its test images, in their order.

    features: whether to read the features too, which are most of the file; otherwise (N, 0).
    Raises UserError where there are none, or they are damaged.
    """
    path = folder.path / PREDICTIONS
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in Predictions.__annotations__ if name != _LAST}
            arrays[_LAST] = found[_LAST] if features else np.empty((arrays["labels"].size, 0))
    except FileNotFoundError:
        raise UserError(f"{folder.path}: no {PREDICTIONS} (the run is {folder.state()})") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not the predictions of a run: {reason}") from None
    if not _is_whole(arrays):
        raise UserError(f"{path}: not the predictions of a run: arrays do not fit each other")
    return Predictions(
        labels=arrays["labels"].astype(np.int64),
        predictions=arrays["predictions"].astype(np.int64),
        probabilities=arrays["probabilities"].astype(np.float32),
        features=arrays["features"].astype(np.float32),
    )


def _is_whole(arrays: dict[str, npt.NDArray[Any]]) -> bool:
    count, classes = arrays["labels"].size, len(CLASSES)
    features = arrays["features"]
    return (
        count > 0
        and all(arrays[name].shape == (count,) for name in ("labels", "predictions"))
        and all(arrays[name].min() >= 0 for name in ("labels", "predictions"))
        and all(arrays[name].max() < classes for name in ("labels", "predictions"))
        and arrays["probabilities"].shape == (count, classes)
        and features.ndim == 2
        and len(features) == count
    )
