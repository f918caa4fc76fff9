"""The analyses of chosen runs as figures: their titles, around the drawings."""

import numpy as np
from matplotlib.figure import Figure

from src import data
from src.common.errors import UserError
from src.report import classes, curves, gallery
from src.report.chosen import Chosen, having
from src.report.drawing import confusion as confusion_drawing
from src.report.drawing import curves as curves_drawing
from src.report.drawing import embedding as embedding_drawing
from src.report.drawing import gallery as gallery_drawing
from src.report.embedding import Embedding
from src.report.predictions import Predictions


def learning_curves(runs: list[Chosen], *, quiet: bool = False) -> Figure:
    """Loss and accuracy over the epochs of runs, side by side.

    Runs without a history are named on stderr, unless `quiet`.
    """
    return curves_drawing.draw(curves.curves(list(having(runs, curves.history, quiet=quiet))))


def confusion(run: Chosen, found: Predictions) -> Figure:
    """The confusion matrix of a run."""
    matrix = classes.confusion(found.labels, found.predictions)
    text = found.in_words(curves.data_name(run.config))
    return confusion_drawing.draw(matrix, f"{run.title}: what is taken for what", text)


def mistakes(run: Chosen, found: Predictions, count: int, path: str) -> Figure:
    """Misclassified test images of a run, the `count` most confident mistakes first.

    path: the data folder. Raises UserError where it holds other test images than the run's, or
    where there is no mistake.
    """
    dataset, images = data.load(path), len(found.labels)
    if not np.array_equal(found.labels, dataset.test_labels[:images]):
        raise UserError(
            f"{run.folder.path}: its labels are not those of the test images in "
            f"{path!r}; -d names other data"
        )
    places = gallery.most_confident_mistakes(found, count)
    if not len(places):
        raise UserError(f"{run.folder.path}: no mistake among {images} test images")
    return gallery_drawing.draw(
        gallery.tiles(found, dataset.test_images, places),
        f"{run.title}: its {len(places)} most confident mistakes",
        f"{(~found.right).sum():,} of {images:,} test images of "
        f"{curves.data_name(run.config)} are misclassified",
    )


def plane(run: Chosen, laid_out: Embedding, part: str, seed: int) -> Figure:
    """Images as a run sees them, in a plane. part: which images, in words; seed: of the layout."""
    text = (
        f"{len(laid_out.labels):,} {part} images of {curves.data_name(run.config)}, balanced by "
        f"class; {laid_out.wrong.mean():.1%} of them are misclassified; "
        f"perplexity {laid_out.perplexity:.3g}, seed {seed}"
    )
    return embedding_drawing.draw(laid_out, f"{run.title}: t-SNE of its penultimate features", text)
