"""The numbers of a classification, class by class: what was taken for what."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from src.data.dataset import CLASSES
from src.report.predictions import Integers


@dataclass(frozen=True)
class Mistake:
    """Another class that images of one were taken for."""

    name: str
    images: int
    share: float
    """Of the images of the true class, 0 to 1."""


@dataclass(frozen=True)
class ClassResult:
    """How the images of one class fared."""

    name: str
    images: int
    correct: int
    mistakes: tuple[Mistake, ...]
    """Most frequent first; classes that no image was taken for are left out."""

    @property
    def accuracy(self) -> float | None:
        """Share of correct predictions, 0 to 1; None without images."""
        return self.correct / self.images if self.images else None


def confusion(labels: Integers, predictions: Integers) -> Integers:
    """(10, 10): images of the true class (row) that were predicted as a class (column)."""
    size = len(CLASSES)
    counts = np.bincount(labels * size + predictions, minlength=size * size)
    matrix: Integers = counts.reshape(size, size).astype(np.int64)
    return matrix


def per_class(matrix: Integers) -> list[ClassResult]:
    """The rows of a confusion matrix (10, 10), in the order of the classes."""
    return [_result(label, row.tolist()) for label, row in enumerate(matrix)]


def worst_first(results: list[ClassResult]) -> list[ClassResult]:
    """By accuracy, the lowest first; classes without images last."""
    return sorted(results, key=lambda one: 2.0 if one.accuracy is None else one.accuracy)


def _result(label: int, counts: list[int]) -> ClassResult:
    images = sum(counts)
    others = [(count, place) for place, count in enumerate(counts) if count and place != label]
    others.sort(key=lambda other: (-other[0], other[1]))
    mistakes = tuple(Mistake(CLASSES[place], count, count / images) for count, place in others)
    return ClassResult(CLASSES[label], images, counts[label], mistakes)


def as_row(result: ClassResult, mistakes: int) -> dict[str, Any]:
    """A class as JSON has it, with its `mistakes` most frequent mistakes."""
    return {
        "class": result.name,
        "images": result.images,
        "correct": result.correct,
        "accuracy": result.accuracy,
        "most_often_taken_for": [
            {"class": one.name, "images": one.images, "share": one.share}
            for one in result.mistakes[:mistakes]
        ],
    }


def as_text(results: list[ClassResult], mistakes: int) -> str:
    """A table for people, a line a class."""
    lines = [f"{'class':<12}{'images':>7}{'correct':>9}{'accuracy':>10}  most often taken for"]
    for one in results:
        accuracy = "-" if one.accuracy is None else f"{one.accuracy:.2%}"
        others = ", ".join(
            f"{other.name} {other.images} ({other.share:.1%})" for other in one.mistakes[:mistakes]
        )
        lines.append(
            f"{one.name:<12}{one.images:>7}{one.correct:>9}{accuracy:>10}  {others or '-'}"
        )
    return "\n".join(lines)
