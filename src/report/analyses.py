"""The analyses of chosen runs, as commands: chosen runs -> numbers -> drawing or table."""

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from src import data
from src.data.split import split
from src.errors import ExitStatus, UserError
from src.paths import shown
from src.report import classes, curves, gallery, predictions
from src.report.chosen import Chosen, having, wanted
from src.report.predictions import Predictions

if TYPE_CHECKING:
    from pathlib import Path

CURVES, IMAGES, MISTAKES = 5, 20, 3
"""What -k is where it is not given."""

SAMPLE = 2000
"""Images of a t-SNE chart."""


def draw_curves(parsed: Namespace) -> ExitStatus:
    """Loss and accuracy over the epochs of runs, side by side."""
    from src.report.drawing import curves as drawing

    runs = wanted(parsed, parsed.k or CURVES)
    found = list(having(runs, curves.history, quiet=parsed.quiet))
    return _wrote(drawing.draw(curves.curves(found), parsed.out))


def draw_confusion(parsed: Namespace) -> ExitStatus:
    """The confusion matrix of each run."""
    from src.report.drawing import confusion as drawing

    for run, found in _predictions(parsed):
        matrix = classes.confusion(found.labels, found.predictions)
        path = parsed.out / f"{run.stem}_confusion"
        _wrote(drawing.draw(matrix, f"{run.title}: what is taken for what", _of(run, found), path))
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
            print(f"{separator}{run.title}: {_of(run, found)}")
            print(classes.as_text(results, mistakes))
    if parsed.json:
        print(json.dumps(rows, indent=2))
    return ExitStatus.DONE


def draw_images(parsed: Namespace) -> ExitStatus:
    """Misclassified test images of each run, the most confident mistakes first."""
    from src.report.drawing import gallery as drawing

    for run, found in _predictions(parsed):
        dataset = _dataset(run, parsed)
        count = len(found.labels)
        if not np.array_equal(found.labels, dataset.test_labels[:count]):
            raise UserError(
                f"{run.folder.path}: its labels are not those of the test images in "
                f"{_path(run, parsed)!r}; -d names other data"
            )
        places = gallery.most_confident_mistakes(found, parsed.k or IMAGES)
        if not len(places):
            raise UserError(f"{run.folder.path}: no mistake among {count} test images")
        drawn = drawing.draw(
            gallery.tiles(found, dataset.test_images, places),
            f"{run.title}: its {len(places)} most confident mistakes",
            f"{(~found.right).sum():,} of {count:,} test images of "
            f"{curves.data_name(run.config)} are misclassified",
            parsed.out / f"{run.stem}_images",
        )
        _wrote(drawn)
    return ExitStatus.DONE


def draw_tsne(parsed: Namespace) -> ExitStatus:
    """The penultimate features of images as each run sees them, laid out in a plane."""
    from src.report import embedding
    from src.report.drawing import embedding as drawing

    on_training = parsed.sample == "train"
    samples = _training_samples(parsed) if on_training else _predictions(parsed)
    for run, found in samples:
        if not on_training:
            found = found.at(embedding.balanced(found.labels, parsed.images, parsed.seed))
        laid_out = embedding.embed(found, parsed.seed)
        part = "training" if on_training else "test"
        text = (
            f"{len(found.labels):,} {part} images of {curves.data_name(run.config)}, balanced by "
            f"class; {laid_out.wrong.mean():.1%} of them are misclassified; "
            f"perplexity {laid_out.perplexity:.3g}, seed {parsed.seed}"
        )
        title = f"{run.title}: t-SNE of its penultimate features"
        name = f"{run.stem}_tsne_train" if on_training else f"{run.stem}_tsne"
        _wrote(drawing.draw(laid_out, title, text, parsed.out / name))
    return ExitStatus.DONE


def _predictions(parsed: Namespace) -> Iterator[tuple[Chosen, Predictions]]:
    return having(wanted(parsed), lambda run: predictions.read(run.folder), quiet=parsed.quiet)


def _training_samples(parsed: Namespace) -> Iterator[tuple[Chosen, Predictions]]:
    return having(wanted(parsed), lambda run: _on_training(run, parsed), quiet=parsed.quiet)


def _on_training(run: Chosen, parsed: Namespace) -> Predictions:
    """What a run's weights make of a balanced sample of its training images."""
    import torch

    from src.data.resident import Images
    from src.report.embedding import balanced
    from src.results.restore import device_of, evaluate_saved, of_run, table_of

    saved = of_run(run.folder.path).on(getattr(parsed, "device", "auto"))
    dataset = _dataset(run, parsed)
    training, _ = split(dataset, run.config)
    chosen = training[balanced(dataset.train_labels[training], parsed.images, parsed.seed)]
    labels, device = dataset.train_labels[chosen], device_of(saved)
    images = Images.put(dataset.train_pixels[chosen], labels, device)
    places = torch.arange(len(chosen), device=device)
    return predictions.of_evaluation(
        labels, evaluate_saved(saved, images, places, table_of(run.config, dataset))
    )


def _dataset(run: Chosen, parsed: Namespace) -> data.Dataset:
    return data.load(_path(run, parsed))


def _path(run: Chosen, parsed: Namespace) -> str:
    from src.results.restore import data_path

    return str(getattr(parsed, "base_dataset_path", "") or data_path(run.config))


def _of(run: Chosen, found: Predictions) -> str:
    """Images, data and accuracy, in words."""
    images = f"{len(found.labels):,} test images of {curves.data_name(run.config)}"
    return f"{images}, {found.right.mean():.2%} of them right"


def _wrote(paths: "list[Path]") -> ExitStatus:
    for path in paths:
        print(shown(path))
    return ExitStatus.DONE
