"""The numbers of saved weights on test images, as text and as JSON."""

import json
import math
from dataclasses import dataclass
from typing import Any

from src.common.paths import shown
from src.data.image_folder import LabelledImages
from src.report.classes import ClassResult, as_row, confusion, per_class
from src.report.classes import as_text as classes_text
from src.report.numbers import interval
from src.report.predictions import Integers, Predictions, of_evaluation
from src.runs.restore import SavedModel
from src.training.evaluation import Evaluation


@dataclass(frozen=True)
class Judged:
    """What weights made of the test images."""

    summary: dict[str, float]
    """Of Sums.summary: accuracies from 0 to 1, loss in nats."""
    interval: tuple[float, float]
    """95 % Wilson interval of the accuracy."""
    matrix: Integers
    classes: list[ClassResult]
    found: Predictions


def judge(pictures: LabelledImages, evaluation: Evaluation) -> Judged:
    """The numbers of an evaluation of `pictures`."""
    found = of_evaluation(pictures.labels, evaluation)
    summary = evaluation.sums.summary("test")
    matrix = confusion(found.labels, found.predictions)
    around = interval(summary["test_accuracy"], len(found.labels))
    return Judged(summary, around, matrix, per_class(matrix), found)


def as_json(saved: SavedModel, judged: Judged) -> str:
    """The numbers, class by class too, as JSON; a loss that is no number is null."""
    loss = judged.summary["test_loss"]
    numbers: dict[str, Any] = {
        "model": saved.config.model_type,
        "weights": str(saved.weights),
        "images": len(judged.found.labels),
        "accuracy": judged.summary["test_accuracy"],
        "low_95": judged.interval[0],
        "high_95": judged.interval[1],
        "loss": loss if math.isfinite(loss) else None,
        "per_class_accuracy": judged.summary["test_per_class_accuracy"],
        "classes": [as_row(one, 1) for one in judged.classes],
    }
    return json.dumps(numbers, indent=2)


def as_text(saved: SavedModel, judged: Judged) -> str:
    """The same for people."""
    low, high = judged.interval
    return "\n".join(
        [
            f"{saved.config.model_type}, {shown(saved.weights)}, "
            f"{len(judged.found.labels):,} test images",
            f"accuracy                 {judged.summary['test_accuracy']:.2%}  "
            f"(95 % Wilson interval {low:.2%} to {high:.2%})",
            f"mean per-class accuracy  {judged.summary['test_per_class_accuracy']:.2%}",
            f"loss                     {judged.summary['test_loss']:.4f} nats (cross-entropy)",
            "",
            classes_text(judged.classes, 1),
            "",
        ]
    )
