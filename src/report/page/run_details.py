"""What the page shows of a single run: command, curves, confusion matrix, mistakes, t-SNE.

A page that is written again and again (--watch) reads a file again only if it has changed: what
was read is cached by path and time of modification.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from src import data
from src.common.errors import UserError
from src.common.paths import HISTORY, PREDICTIONS, shown
from src.config import RunConfig
from src.data.dataset import Dataset, ImageArray
from src.data.image_files import resize
from src.data.spec import CLASSES
from src.report import reproduce_command
from src.report.run_analysis import predictions, tsne
from src.report.run_analysis.confusion_matrix import (
    as_json,
    class_results,
    confusion_matrix,
    worst_first,
)
from src.report.run_analysis.mistakes import most_confident_mistakes, predicted_images
from src.report.run_analysis.run_selection import SelectedRun
from src.runs.run_folder import RunFolder

_MISTAKES = 12  # images of a run
_CURVE_POINTS = 120
_TSNE_IMAGES = 500
_WORST = 10  # classes
_MANY_CLASSES = 20  # from there on, the matrix of each of hundreds of runs is too much for a page
_TILE = 32  # pixels of an image's side on the page
_CURVES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")


@dataclass
class SpriteSheet:
    """The images that the page shows, each once, as tiles of one picture."""

    tiles: list[ImageArray] = field(default_factory=list)
    positions: dict[tuple[str, int], int] = field(default_factory=dict)

    COLUMNS = 16

    def add(self, source: str, index: int, image: ImageArray) -> int:
        """The position of a tile, which is added unless it is there: test image of a data set."""
        if (source, index) not in self.positions:
            self.positions[source, index] = len(self.tiles)
            self.tiles.append(_tile(image))
        return self.positions[source, index]

    def png(self) -> str:
        """All tiles in rows of COLUMNS, as the base64 text of a PNG. Empty without tiles."""
        if not self.tiles:
            return ""
        from PIL import Image

        rows = math.ceil(len(self.tiles) / self.COLUMNS)
        sheet = np.zeros((rows, self.COLUMNS, _TILE, _TILE, 3), np.uint8)
        for position, tile in enumerate(self.tiles):
            sheet[divmod(position, self.COLUMNS)] = tile
        pixels = sheet.swapaxes(1, 2).reshape(rows * _TILE, self.COLUMNS * _TILE, 3)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
        return base64.b64encode(file.getvalue()).decode()


def _tile(image: ImageArray) -> ImageArray:
    """An image (S, S, C) as (32, 32, 3)."""
    small = resize(image[None], _TILE)[0]
    return np.broadcast_to(small, (_TILE, _TILE, 3))


def run_details(run: SelectedRun) -> dict[str, Any]:
    """A run's command, settings, curves and confusion matrix, as far as its folder has them."""
    path = run.folder.path
    details: dict[str, Any] = {
        "command": reproduce_command.from_config(run.config),
        "folder": shown(path),
        "settings": _settings(run.config),
    }
    details |= _curves(path, _modified(path / HISTORY))
    try:
        classes = run.data.classes
    except UserError as error:
        return details | {"no_confusion": str(error)}
    if classes != CLASSES:
        details["classes"] = list(classes)
    return details | _confusion(path, classes, _modified(path / PREDICTIONS), always=False)


def large_confusion(run: SelectedRun) -> dict[str, Any]:
    """The confusion matrix of a run that `run_details` has left out for its size, or nothing."""
    path, classes = run.folder.path, run.data.classes
    if len(classes) <= _MANY_CLASSES:
        return {}
    return _confusion(path, classes, _modified(path / PREDICTIONS), always=True)


def mistakes(run: SelectedRun, images: SpriteSheet) -> list[dict[str, Any]]:
    """The most confident mistakes of a run. Raises UserError if its test images are not here."""
    source = _data_path(run.config)
    predicted = predictions.read(run.folder, features=False)
    dataset = _dataset(source, run.config.dataset)
    if not np.array_equal(predicted.labels, dataset.test_labels[: len(predicted.labels)]):
        raise UserError(f"{source!r} holds other test images than the run's")
    indices = most_confident_mistakes(predicted, _MISTAKES)
    classes, tested_on = dataset.spec.classes, dataset.test_images
    shown_images = predicted_images(predicted, tested_on, classes, indices)
    return [
        {
            "tile": images.add(f"{source} {run.config.dataset}", int(index), image.image),
            "true": image.true,
            "predicted": image.predicted,
            "confidence": round(image.confidence, 4),
        }
        for index, image in zip(indices, shown_images, strict=True)
    ]


def embedding(run: SelectedRun) -> dict[str, Any]:
    """t-SNE of a run's test images. Raises UserError if its predictions do not allow it."""
    return _embedding(run.folder.path, _modified(run.folder.path / PREDICTIONS))


@lru_cache(maxsize=64)
def _embedding(path: Path, modified: int) -> dict[str, Any]:
    del modified  # only a part of the cache's key
    predicted = predictions.read(RunFolder(path))
    sample = predicted.take(tsne.balanced_sample(predicted.labels, _TSNE_IMAGES, seed=0))
    embedded = tsne.embed(sample, seed=0)
    return {
        "x": [round(float(x), 2) for x in embedded.points[:, 0]],
        "y": [round(float(y), 2) for y in embedded.points[:, 1]],
        "label": embedded.labels.tolist(),
        "predicted": embedded.predictions.tolist(),
        "perplexity": embedded.perplexity,
    }


@lru_cache(maxsize=4096)
def _curves(path: Path, modified: int) -> dict[str, Any]:
    del modified
    try:
        rows = RunFolder(path).history()
    except ValueError as error:
        return {"no_curves": f"{HISTORY} is damaged", "damaged": str(error)}
    if not rows:
        return {"no_curves": f"there is no {HISTORY}"}
    rows = [rows[index] for index in _thinned(rows)]
    columns: dict[str, list[Any]] = {"epoch": [row["epoch"] for row in rows]}
    for name in _CURVES:
        columns[name] = [_rounded(row.get(name)) for row in rows]
    return {"curves": columns}


def _thinned(rows: Sequence[dict[str, Any]]) -> list[int]:
    """Indices of at most about _CURVE_POINTS rows: validated epochs, evenly, and the last one."""
    validated = [index for index, row in enumerate(rows) if row.get("val_loss") is not None]
    indices = validated if len(rows) > _CURVE_POINTS and validated else list(range(len(rows)))
    step = math.ceil(len(indices) / _CURVE_POINTS)
    return sorted({*indices[::step], indices[-1]})


def _rounded(value: Any) -> float | None:
    """Five digits, a third of the page's size. Returns None if it is no finite number."""
    finite = isinstance(value, int | float) and math.isfinite(value)
    return float(f"{value:.5g}") if finite else None


@lru_cache(maxsize=4096)
def _confusion(path: Path, classes: tuple[str, ...], modified: int, always: bool) -> dict[str, Any]:
    del modified
    try:
        predicted = predictions.read(RunFolder(path), features=False)
    except UserError as error:
        return {"no_confusion": str(error)}
    matrix = confusion_matrix(predicted)
    if len(matrix) != len(classes):
        return {
            "no_confusion": f"{len(matrix)} classes in {PREDICTIONS}, {len(classes)} in the data"
        }
    worst = [as_json(result, 2) for result in worst_first(class_results(matrix, classes))[:_WORST]]
    if len(classes) > _MANY_CLASSES and not always:
        why = f"Of {len(classes)} classes, matrices are stored for the best runs of each model."
        return {"no_confusion": why, "worst": worst}
    return {"confusion": matrix.flatten().tolist(), "worst": worst}


def worst_by_accuracy(accuracies: Mapping[str, float]) -> list[dict[str, Any]]:
    """The worst classes by accuracy, the lowest first, of a run without predictions."""
    worst = sorted(accuracies.items(), key=lambda pair: pair[1])[:_WORST]
    return [{"class": name, "accuracy": accuracy} for name, accuracy in worst]


def _settings(config: RunConfig) -> dict[str, Any]:
    """All settings, those that are not at their default first."""
    values, defaults = config.as_dict(), RunConfig().as_dict()
    return dict(sorted(values.items(), key=lambda item: item[1] == defaults[item[0]]))


def _data_path(config: RunConfig) -> str:
    """The data folder of a run. Raises UserError if it does not exist: the page downloads none."""
    from src.runs.restore import data_path

    path = data_path(config)
    if not data.is_here(path):
        raise UserError(f"the images are not here: no folder {path!r} (CIFAR10_DIR names another)")
    return path


@lru_cache(maxsize=2)
def _dataset(source: str, name: str) -> Dataset:
    return data.load(source, name)


def _modified(path: Path) -> int:
    """When a file was modified, in nanoseconds; 0 if it does not exist."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
