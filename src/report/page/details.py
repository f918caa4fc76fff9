"""What the page tells of single runs, from their folders: each is read once, and again if new."""

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from src import data
from src.common.errors import UserError
from src.common.paths import CONFIG, HISTORY, PREDICTIONS, shown
from src.config import SYNTHETIC, RunConfig
from src.data.dataset import CLASSES, Dataset, ImageArray
from src.report import classes, command, embedding, gallery, predictions
from src.report.chosen import Chosen
from src.report.predictions import Integers
from src.runs.run_folder import RunFolder

MISTAKES = 12
"""Pictures of a run."""

_POINTS = 120  # of a curve: more are thinned out
_PLANE = 500  # images of a t-SNE
_CURVES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")


@dataclass
class LabelledImages:
    """Test images, each once, in one picture of tiles."""

    tiles: list[ImageArray] = field(default_factory=list)
    places: dict[tuple[str, int], int] = field(default_factory=dict)

    COLUMNS = 16

    def place(self, source: str, number: int, image: ImageArray) -> int:
        """Where the test image `number` of `source` is among the tiles."""
        if (source, number) not in self.places:
            self.places[source, number] = len(self.tiles)
            self.tiles.append(image)
        return self.places[source, number]

    def png(self) -> str:
        """All tiles in rows of COLUMNS, as the base64 text of a PNG; empty without tiles."""
        if not self.tiles:
            return ""
        from PIL import Image

        rows = math.ceil(len(self.tiles) / self.COLUMNS)
        sheet = np.zeros((rows, self.COLUMNS, 32, 32, 3), np.uint8)
        for place, tile in enumerate(self.tiles):
            sheet[divmod(place, self.COLUMNS)] = tile
        pixels = sheet.swapaxes(1, 2).reshape(rows * 32, self.COLUMNS * 32, 3)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
        return base64.b64encode(file.getvalue()).decode()


def folders(runs_dir: Path | None, run_ids: Iterable[str]) -> dict[str, Chosen]:
    """The run folders of the ids that have a readable one, by id."""
    if runs_dir is None:
        return {}
    wanted, found = set(run_ids), {}
    for path in runs_dir.glob(f"*/*/{CONFIG}"):
        run_id = path.parent.name.rpartition("-")[2]
        if run_id in wanted:
            try:
                found[run_id] = Chosen.at(path.parent)
            except UserError:
                continue
    return found


def of_run(run: Chosen) -> dict[str, Any]:
    """A run's command, settings, curves and confusion matrix, as far as its folder has them."""
    path = run.folder.path
    found: dict[str, Any] = {
        "command": command.of_config(run.config),
        "folder": shown(path),
        "settings": _settings(run.config),
    }
    found |= _curves(path, _stamp(path / HISTORY))
    return found | _confusion(path, _stamp(path / PREDICTIONS))


def mistakes(run: Chosen, pictures: LabelledImages) -> list[dict[str, Any]]:
    """The most confident mistakes of a run. Raises UserError where there are no pictures of it."""
    source = _source(run.config)
    found, images = predictions.read(run.folder, features=False), _images(source)
    if not np.array_equal(found.labels, images.test_labels[: len(found.labels)]):
        raise UserError(f"{source!r} holds other test images than the run's")
    places = gallery.most_confident_mistakes(found, MISTAKES)
    return [
        {
            "tile": pictures.place(source, int(number), tile.image),
            "true": tile.true,
            "predicted": tile.predicted,
            "confidence": round(tile.confidence, 4),
        }
        for number, tile in zip(
            places, gallery.tiles(found, images.test_images, places), strict=True
        )
    ]


def plane(run: Chosen) -> dict[str, Any]:
    """A run's test images laid out by t-SNE. Raises UserError where that cannot be done."""
    return _plane(run.folder.path, _stamp(run.folder.path / PREDICTIONS))


@lru_cache(maxsize=64)
def _plane(path: Path, stamp: int) -> dict[str, Any]:
    del stamp  # what is remembered is of that file
    found = predictions.read(RunFolder(path))
    found = found.at(embedding.balanced(found.labels, _PLANE, seed=0))
    to_memory_format = embedding.embed(found, seed=0)
    return {
        "x": [round(float(x), 2) for x in to_memory_format.points[:, 0]],
        "y": [round(float(y), 2) for y in to_memory_format.points[:, 1]],
        "label": to_memory_format.labels.tolist(),
        "predicted": to_memory_format.predictions.tolist(),
        "perplexity": to_memory_format.perplexity,
    }


@lru_cache(maxsize=4096)
def _curves(path: Path, stamp: int) -> dict[str, Any]:
    del stamp
    try:
        rows = RunFolder(path).history()
    except ValueError as error:
        return {"no_curves": f"{HISTORY} is damaged: {error}"}
    if not rows:
        return {"no_curves": f"there is no {HISTORY}"}
    rows = [rows[place] for place in _thinned(rows)]
    columns: dict[str, list[Any]] = {"epoch": [row["epoch"] for row in rows]}
    for name in _CURVES:
        columns[name] = [_rounded(row.get(name)) for row in rows]
    return {"curves": columns}


def _thinned(rows: Sequence[dict[str, Any]]) -> list[int]:
    """Places of at most about _POINTS rows: those with validations, evenly, and the last."""
    validated = [place for place, row in enumerate(rows) if row.get("val_loss") is not None]
    places = validated if len(rows) > _POINTS and validated else list(range(len(rows)))
    step = math.ceil(len(places) / _POINTS)
    return sorted({*places[::step], places[-1]})


def _rounded(value: Any) -> float | None:
    finite = isinstance(value, int | float) and math.isfinite(value)
    return float(f"{value:.5g}") if finite else None


@lru_cache(maxsize=4096)
def _confusion(path: Path, stamp: int) -> dict[str, Any]:
    del stamp
    try:
        found = predictions.read(RunFolder(path), features=False)
    except UserError as error:
        return {"no_confusion": str(error)}
    matrix = classes.confusion(found.labels, found.predictions)
    return {"confusion": matrix.flatten().tolist(), "worst": worst(matrix)}


def worst(matrix: Integers) -> list[dict[str, Any]]:
    """The classes of a confusion matrix, the worst first, with what they are most taken for."""
    results = classes.worst_first(classes.per_class(matrix))
    return [classes.as_row(one, 2) for one in results]


def worst_of_shares(shares: Sequence[float]) -> list[dict[str, Any]]:
    """The same of accuracies by class, where nothing else is known."""
    named = zip(CLASSES, shares, strict=True)
    return [{"class": name, "accuracy": share} for name, share in sorted(named, key=lambda c: c[1])]


def _settings(config: RunConfig) -> dict[str, Any]:
    """What differs from the defaults first."""
    values, usual = config.as_dict(), RunConfig().as_dict()
    return dict(sorted(values.items(), key=lambda item: item[1] == usual[item[0]]))


def _source(config: RunConfig) -> str:
    """Where the images of a run are. Raises UserError where they are not: none is downloaded."""
    from src.runs.restore import data_path

    path = data_path(config)
    if path != SYNTHETIC and not Path(path).expanduser().exists():
        raise UserError(f"the images are not here: no folder {path!r} (CIFAR10_DIR names another)")
    return path


@lru_cache(maxsize=2)
def _images(source: str) -> Dataset:
    return data.load(source)


def _stamp(path: Path) -> int:
    """Changes when a file does; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
