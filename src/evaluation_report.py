"""The numbers of an evaluation, as text and as JSON."""

from dataclasses import dataclass
from typing import Any

from src.common.json_text import json_text
from src.common.paths import shown
from src.data.evaluation_images import LabelledImages
from src.report.run_analysis import confusion_matrix
from src.report.run_analysis.confusion_matrix import ClassResult
from src.report.run_analysis.predictions import Integers, Predictions, from_evaluation
from src.report.statistics import wilson_interval
from src.runs.restore import SavedModel
from src.training.evaluation import Evaluation
from src.training.metrics import MetricTotals


@dataclass(frozen=True)
class EvaluationReport:
    """The results of weights on labelled images."""

    split: str
    """Which images of a data set they are: training, validation or test."""
    totals: MetricTotals
    interval: tuple[float, float]
    """95 % Wilson interval of the accuracy."""
    matrix: Integers
    """Confusion matrix (K, K), rows true and columns predicted."""
    classes: list[ClassResult]
    predictions: Predictions


def report_on(images: LabelledImages, evaluation: Evaluation) -> EvaluationReport:
    """The results of an evaluation of `images`."""
    predicted = from_evaluation(images.labels, evaluation)
    matrix = confusion_matrix.confusion_matrix(predicted)
    return EvaluationReport(
        split=images.split,
        totals=evaluation.totals,
        interval=wilson_interval(evaluation.totals.accuracy, len(predicted.labels)),
        matrix=matrix,
        classes=confusion_matrix.class_results(matrix, images.spec.classes),
        predictions=predicted,
    )


def as_json(saved: SavedModel, report: EvaluationReport) -> str:
    """The results as JSON. A loss that is not finite is null."""
    totals = report.totals
    numbers: dict[str, Any] = {
        "model": saved.config.model_name,
        "weights": str(saved.weights),
        "split": report.split,
        "images": len(report.predictions.labels),
        "accuracy": totals.accuracy,
        "low_95": report.interval[0],
        "high_95": report.interval[1],
        "loss": totals.mean_loss,
        "per_class_accuracy": totals.per_class_accuracy,
        "classes": [confusion_matrix.as_json(result, 1) for result in report.classes],
    }
    return json_text(numbers)


def as_text(saved: SavedModel, report: EvaluationReport) -> str:
    """The results as lines and a table of the classes."""
    (low, high), totals = report.interval, report.totals
    return "\n".join(
        [
            f"{saved.config.model_name}, {shown(saved.weights)}, "
            f"{len(report.predictions.labels):,} {report.split} images",
            f"accuracy                 {totals.accuracy:.2%}  "
            f"(95 % Wilson interval {low:.2%} to {high:.2%})",
            f"mean per-class accuracy  {totals.per_class_accuracy:.2%}",
            f"loss                     {totals.mean_loss:.4f} nats (cross-entropy)",
            "",
            confusion_matrix.as_text(report.classes, 1),
            "",
        ]
    )
