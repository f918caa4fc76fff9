"""Write the run folders of a synthetic sweep: configs, histories, predictions, failures.

The numbers are random, and resemble those of a real sweep.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.common.result_values import TEST_ACCURACY
from src.config import CHECKPOINT_KINDS, RunConfig
from src.data.spec import CLASSES
from src.runs.run_folder import RunFolder
from src.sweep import grid

_starts = count(1)
MARKUP = "</script><img src=x onerror=window.evil=1><b>bold</b>"
_BASE = {"resnet": 0.78, "cnn": 0.80, "vit": 0.70}
_RATE = {0.01: -0.16, 0.001: 0.015, 0.0001: 0.0, 0.00001: -0.13}
_DECAY = {0.01: -0.012, 0.001: 0.006, 0.0001: 0.002, 0.00001: 0.0}
RATES, SCHEDULES = (0.1, 0.01, 0.001), ("step", "cosine")
_SCHEDULE = {"exponential": 0.0, "step": 0.004, "cosine": 0.007}


def configs() -> list[RunConfig]:
    """Return the reference grid on the synthetic data set."""
    return [replace(one, base_dataset_path="synthetic") for one in grid.expand(grid.REFERENCE)]


def make(
    runs_dir: Path,
    labels: np.ndarray,
    cells: Iterable[RunConfig] | None = None,
    *,
    failed: int = 0,
    pruned: int = 0,
    missing: int = 0,
) -> Path:
    """Write the run folders of `cells`; randomly chosen ones are missing, failed or pruned."""
    by_id: dict[str, list[RunConfig]] = {}
    for config in cells or configs():
        by_id.setdefault(config.id, []).append(config)
    names = list(by_id)
    # a random order, so that every architecture has some
    order = np.random.default_rng(1).permutation(len(names))
    absent = {names[place] for place in order[:missing]}
    failed_ids = [names[place] for place in order[missing : missing + failed]]
    pruned_ids = {names[place] for place in order[missing + failed : missing + failed + pruned]}
    for number, (run_id, members) in enumerate(by_id.items()):
        if run_id in absent:
            continue
        folder = _start(runs_dir, members)
        if run_id in failed_ids:
            _fail(folder, failed_ids.index(run_id))
        else:
            _finish(folder, members[0], np.random.default_rng(number), labels, run_id in pruned_ids)
    return runs_dir


def _start(runs_dir: Path, members: list[RunConfig]) -> Path:
    folder = RunFolder.of(members[0], runs_dir)
    for config in members:
        path = folder.path / "cells" / f"{config.cell}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config.as_dict()))
    (folder.path / "config.json").write_text(json.dumps(members[0].canonical().as_dict()))
    (folder.path / "attempts").mkdir()
    process = {"machine": "elsewhere", "pid": 1, "start": next(_starts)}
    record = {"attempt": 1, "host": "n1", "process": process}
    record |= {"heartbeat": 120, "ended": "done", "slurm_job_id": None}
    (folder.path / "attempts" / "1.json").write_text(json.dumps(record))
    return folder.path


def _fail(folder: Path, number: int) -> None:
    kinds = [("OutOfMemoryError", "CUDA out of memory"), ("non-finite loss", "in epoch 3")]
    kinds += [("ValueError", MARKUP)]
    kind, message = kinds[number % 3]
    failure = {"kind": kind, "message": message, "traceback": "Traceback ..."}
    (folder / "failure.json").write_text(json.dumps(failure))
    record = json.loads((folder / "attempts" / "1.json").read_text()) | {"ended": "failed"}
    (folder / "attempts" / "1.json").write_text(json.dumps(record))


def _finish(
    folder: Path,
    config: RunConfig,
    random: np.random.Generator,
    labels: np.ndarray,
    pruned_ids: bool,
) -> None:
    accuracy = _accuracy(config, random)
    epochs = 15 if pruned_ids else int(random.integers(35, config.num_epochs + 1))
    history = _history(accuracy, epochs, random)
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    table = _predict(labels, accuracy - 0.008, random)
    np.savez(folder / "predictions.npz", allow_pickle=False, **table)
    correct = table["labels"] == table["predictions"]
    name = "pruned.json" if pruned_ids else "result.json"
    result = _result(config, history, correct, table["labels"], random)
    (folder / name).write_text(
        json.dumps(result | {"stop_reason": "pruned"} if pruned_ids else result)
    )


def _accuracy(config: RunConfig, random: np.random.Generator) -> float:
    value = _BASE[config.model_type] + _RATE[config.learning_rate] + _DECAY[config.weight_decay]
    value += _SCHEDULE[config.scheduler] + 0.05 * config.data_augmentation
    if config.model_type == "vit":
        value += {0.01: -0.2, 0.001: -0.03}.get(config.learning_rate, 0.03)
    return float(np.clip(value + random.normal(0, 0.006), 0.1, 0.95))


def _history(accuracy: float, epochs: int, random: np.random.Generator) -> list[dict[str, Any]]:
    epoch = np.arange(1, epochs + 1)
    expected = accuracy - (accuracy - 0.2) * np.exp(-epoch / 9)
    val = expected + random.normal(0, 0.008, epochs)
    train = np.minimum(0.999, expected + 0.0018 * epoch)
    columns = {
        "train_accuracy": train,
        "val_accuracy": val,
        "train_loss": 2.3 * (1 - train) + 0.02,
        "val_loss": 2.3 * (1 - val) + 0.002 * epoch,
    }
    return [
        {"epoch": int(e), "lr": 0.001, **{k: float(v[e - 1]) for k, v in columns.items()}}
        | {"seconds": 11.5}
        for e in epoch
    ]


def _predict(
    labels: np.ndarray, accuracy: float, random: np.random.Generator
) -> dict[str, np.ndarray]:
    class_offsets = np.array([0.02, 0.06, -0.07, -0.14, -0.02, -0.08, 0.05, 0.04, 0.07, 0.05])
    correct = random.random(len(labels)) < accuracy + class_offsets[labels]
    similar_class = np.array([8, 9, 4, 5, 2, 3, 3, 4, 0, 1])
    other = np.where(random.random(len(labels)) < 0.5, similar_class[labels], (labels + 3) % 10)
    predictions = np.where(correct, labels, other)
    confidence = random.uniform(0.35, 1, len(labels))
    probabilities = np.repeat((1 - confidence[:, None]) / 9, 10, axis=1)
    probabilities[np.arange(len(labels)), predictions] = confidence
    features = np.eye(10, 12)[predictions] * 3 + random.normal(0, 0.7, (len(labels), 12))
    return {
        "labels": labels,
        "predictions": predictions,
        "probabilities": probabilities.astype(np.float16),
        "features": features.astype(np.float16),
    }


def _result(
    config: RunConfig,
    history: list[dict[str, Any]],
    correct: np.ndarray,
    labels: np.ndarray,
    random: np.random.Generator,
) -> dict[str, Any]:
    best = max(history, key=lambda row: row["val_accuracy"])
    result: dict[str, Any] = {"run_id": config.id, "epochs_run": len(history), "seed": config.seed}
    result |= {"best_epoch": best["epoch"], "best_val_accuracy": best["val_accuracy"]}
    result |= {"stop_reason": "completed", "train_seconds": 11.5 * len(history)}
    result |= {"images_per_second": float(random.normal(3400, 90)), "device": "NVIDIA A100"}
    result |= {"precision": "bfloat16", "git_commit": "1a2b3c4", "test_images": len(labels)}
    per_class = {name: float(correct[labels == k].mean()) for k, name in enumerate(CLASSES)}
    for kind in CHECKPOINT_KINDS:
        worse = 0.0 if kind == "best_val_acc" else float(random.uniform(0, 0.01))
        result[f"test_accuracy_{kind}"] = float(correct.mean()) - worse
        result[f"test_loss_{kind}"] = 2.5 * (1 - float(correct.mean()) + worse)
        result[f"test_per_class_accuracy_{kind}"] = float(np.mean(list(per_class.values()))) - worse
        for name, value in per_class.items():
            result[f"test_per_class_accuracy_{name}_{kind}"] = value
    for part in ("train", "val"):
        result |= {f"{part}_{m}": history[-1][f"{part}_{m}"] for m in ("accuracy", "loss")}
    return result


def table_of_grid(accuracy: Callable[[float, str, bool], float], **columns: Any) -> pd.DataFrame:
    """Return the table of a grid with accuracies from a function of rate, schedule, augmented."""
    rows = [
        {
            "Modelname": "cnn",
            "augmentation": augmented,
            "scheduler": schedule,
            "learning_rate": rate,
            "weight_decay": 0.0,
            "gamma": 0.97,
            "test_per_class_accuracy_best_val_acc": 0.5,
            **columns,
        }
        for rate, schedule, augmented in product(RATES, SCHEDULES, (False, True))
    ]
    table = pd.DataFrame(rows)
    table["best_val_accuracy"] = [
        accuracy(row["learning_rate"], row["scheduler"], row["augmentation"]) for row in rows
    ]
    return table.assign(**{TEST_ACCURACY: table["best_val_accuracy"]})
