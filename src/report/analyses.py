"""The analyses of chosen runs, as commands: chosen runs -> numbers -> drawing or table."""

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from src import data
from src.common.errors import ExitStatus
from src.common.paths import shown
from src.data.split import split
from src.report import classes, curves, predictions
from src.report.chosen import Chosen, having, wanted
from src.report.predictions import Predictions

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

CURVES, IMAGES, MISTAKES = 5, 20, 3
"""What -k is where it is not given."""

SAMPLE = 2000
"""Images of a t-SNE chart."""


def draw_curves(parsed: Namespace) -> ExitStatus:
    """Loss and accuracy over the epochs of runs, side by side."""
    from src.report import figures

    runs = wanted(parsed, parsed.k or CURVES)
    return _save(figures.learning_curves(runs, quiet=parsed.quiet), parsed.out / "curves")


def draw_confusion(parsed: Namespace) -> ExitStatus:
    """The confusion matrix of each run."""
    from src.report import figures

    for run, found in _predictions(parsed):
        _save(figures.confusion(run, found), parsed.out / f"{run.stem}_confusion")
    return ExitStatus.DONE


def print_classes(parsed: Namespace) -> ExitStatus:
    """Classes of each run, the worst first, and what they are taken for."""
    rows = []
    for run, found in _predictions(parsed):
        results = classes.per_class(classes.confusion(found.labels, found.predictions))
        results = classes.worst_first(results)
        mistakes = parsed.k or MISTAKES
        rows.append(
            {
                "model": run.config.model_type,
                "run_id": run.config.id,
                "images": len(found.labels),
                "accuracy": float(found.right.mean()),
                "classes": [classes.as_row(result, mistakes) for result in results],
            }
        )
        if not parsed.json:
            separator = "\n" if len(rows) > 1 else ""
            print(f"{separator}{run.title}: {found.in_words(curves.data_name(run.config))}")
            print(classes.as_text(results, mistakes))
    if parsed.json:
        print(json.dumps(rows, indent=2))
    return ExitStatus.DONE


def draw_images(parsed: Namespace) -> ExitStatus:
    """Misclassified test images of each run, the most confident mistakes first."""
    from src.report import figures

    for run, found in _predictions(parsed):
        figure = figures.mistakes(run, found, parsed.k or IMAGES, _path(run, parsed))
        _save(figure, parsed.out / f"{run.stem}_images")
    return ExitStatus.DONE


def draw_tsne(parsed: Namespace) -> ExitStatus:
    """The penultimate features of images as each run sees them, laid out in a plane."""
    from src.report import embedding, figures

    on_training = parsed.sample == "train"
    samples = _training_samples(parsed) if on_training else _predictions(parsed)
    for run, found in samples:
        if not on_training:
            found = found.at(embedding.balanced(found.labels, parsed.images, parsed.seed))
        to_memory_format = embedding.embed(found, parsed.seed)
        part = "training" if on_training else "test"
        name = f"{run.stem}_tsne_train" if on_training else f"{run.stem}_tsne"
        _save(figures.plane(run, to_memory_format, part, parsed.seed), parsed.out / name)
    return ExitStatus.DONE


def _predictions(parsed: Namespace) -> Iterator[tuple[Chosen, Predictions]]:
    return having(wanted(parsed), lambda run: predictions.read(run.folder), quiet=parsed.quiet)


def _training_samples(parsed: Namespace) -> Iterator[tuple[Chosen, Predictions]]:
    return having(wanted(parsed), lambda run: _on_training(run, parsed), quiet=parsed.quiet)


def _on_training(run: Chosen, parsed: Namespace) -> Predictions:
    """What a run's weights make of a balanced sample of its training images."""
    import torch

    from src.data.device_dataset import DeviceImages
    from src.report.embedding import balanced
    from src.runs.restore import device_of, evaluate_saved, of_run, table_of

    saved = of_run(run.folder.path).on(getattr(parsed, "device", "auto"))
    dataset = _dataset(run, parsed)
    training, _ = split(dataset, run.config)
    chosen = training[balanced(dataset.train_labels[training], parsed.images, parsed.seed)]
    labels, device = dataset.train_labels[chosen], device_of(saved)
    images = DeviceImages.put(dataset.train_pixels[chosen], labels, device)
    places = torch.arange(len(chosen), device=device)
    return predictions.of_evaluation(
        labels, evaluate_saved(saved, images, places, table_of(run.config, dataset))
    )


def _dataset(run: Chosen, parsed: Namespace) -> data.Dataset:
    return data.load(_path(run, parsed))


def _path(run: Chosen, parsed: Namespace) -> str:
    from src.runs.restore import data_path

    return str(getattr(parsed, "base_dataset_path", "") or data_path(run.config))


def _save(figure: "Figure", path: "Path") -> ExitStatus:
    from src.report.charts import save

    for written in save(figure, path):
        print(shown(written))
    return ExitStatus.DONE
