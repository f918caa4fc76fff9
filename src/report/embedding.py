"""The numbers of a t-SNE chart: penultimate features of images, laid out in a plane."""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from src.common.errors import UserError
from src.data.dataset import CLASSES
from src.report.predictions import Floats, Integers, Predictions

PERPLEXITY = 30
_COMPONENTS = 50  # that wide features are reduced to first, as van der Maaten and Hinton do
_FEWEST = 5


@dataclass(frozen=True)
class Embedding:
    """N images in a plane: points (N, 2), their labels and predictions (N,)."""

    points: Floats
    labels: Integers
    predictions: Integers
    perplexity: float

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """(N,): whether the prediction is not the label."""
        return self.labels != self.predictions


def balanced(labels: Integers, count: int, seed: int) -> Integers:
    """Places of about `count` random images, equally many of each class as far as there are.

    Ascending; the same for the same arguments.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    place = np.empty(len(labels), np.int64)  # of each image among those of its class
    for label in range(len(CLASSES)):
        members = order[labels[order] == label]
        place[members] = np.arange(len(members))
    by_place = order[np.argsort(place[order], kind="stable")]
    return np.sort(by_place[:count])


def embed(found: Predictions, seed: int) -> Embedding:
    """Lay out the images by their features, with t-SNE (van der Maaten and Hinton 2008).

    Perplexity is 30, less where there are fewer than 91 images. Raises UserError for fewer than
    five images, or features that are all the same or not finite.
    """
    from sklearn.decomposition import PCA  # seconds to import
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    features, count = found.features, len(found.labels)
    if count < _FEWEST:
        raise UserError(f"t-SNE of {count} images: expected at least {_FEWEST}")
    if not np.isfinite(features).all() or not features.std(axis=0).any():
        raise UserError("t-SNE: the features of the images are all the same, or not finite")
    if features.shape[1] > _COMPONENTS < count:
        features = PCA(_COMPONENTS, random_state=seed).fit_transform(features)
    perplexity = min(float(PERPLEXITY), (count - 1) / 3)
    # threads that wait for each other at every step are slower than one beside a training
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning), threadpool_limits(1):
        points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)
    return Embedding(points.astype(np.float32), found.labels, found.predictions, perplexity)
