"""Rankings of runs as plain values, for the page and for notebooks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from src.report.charts.top_k import RankedRun, TopK
from src.report.settings import HYPERPARAMETERS
from src.report.statistics import is_within_noise
from src.report.table import (
    BEST_VAL_ACCURACY,
    MODEL,
    cell_text,
    first_number,
    number_of_test_images,
)


def run_view(run: RankedRun) -> dict[str, Any]:
    """A ranked run."""
    return {
        "model": str(run.row[MODEL]),
        "label": _one_line(run.label),
        "settings": [str(run.row[name]) for name in HYPERPARAMETERS],
        "accuracy": run.accuracy,
        "low": run.low,
        "high": run.high,
        "per_class": run.per_class_accuracy,
        "validation": first_number(run.row, (BEST_VAL_ACCURACY, "val_accuracy")),
        "images": number_of_test_images(run.row),
        "pruned_after": run.pruned_after,
        "run_id": cell_text(run.row.get("run_id")),
    }


def best_of_each_view(runs: Sequence[RankedRun]) -> list[dict[str, Any]]:
    """The best run of each architecture; labels without the architecture's name."""
    return [
        run_view(run) | {"label": _one_line(run.label.partition("\n")[2] or run.label)}
        for run in runs
    ]


def top_k_view(top: TopK) -> dict[str, Any]:
    """The best runs of an architecture, each with its difference from the most accurate one."""
    most_accurate = max(top.runs, key=lambda run: run.accuracy)
    runs = [
        run_view(run)
        | {
            "behind": most_accurate.accuracy - run.accuracy,
            "within_noise": is_within_noise(most_accurate, run),
            "is_most_accurate": run is most_accurate,
        }
        for run in top.runs
    ]
    return {
        "model": top.model,
        "runs": top.candidates,
        "shared": _one_line(top.shared),
        "bars": runs,
        "scale": axis_limits(runs),
    }


def axis_limits(runs: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Limits of an axis for intervals: whole per cents around all of them."""
    low = min((run["low"] for run in runs), default=0.0)
    high = max((run["high"] for run in runs), default=1.0)
    return math.floor(100 * low) / 100, math.ceil(100 * high) / 100


def _one_line(label: str) -> str:
    return label.replace("\n", ", ").replace("\N{NO-BREAK SPACE}", " ")
