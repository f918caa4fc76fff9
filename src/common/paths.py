"""Every file name that the project reads or writes, once."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# defaults of the command line, relative to the repository
SETS_DIR = ROOT / "hyperparameter_sets"
RUNS_DIR = ROOT / "saved_models"
CSV_FILE = ROOT / "clean_runs.csv"
REPORT_DIR = ROOT / "report"

# the code that a name of the command line stands for
MODELS_PACKAGE = ROOT / "src" / "models"

# the CIFAR-10 python version, as its authors publish it
CIFAR10_FOLDER = "cifar-10-batches-py"
TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_BATCH = "test_batch"

# a run folder: saved_models/<model>/<run name>-<id>/
CONFIG = "config.json"
CELLS = "cells"  # one file for every grid cell that this run answers
HISTORY = "history.jsonl"
RESUME = "resume.pt"
RESUME_BEFORE = "resume.before.pt"
RESULT = "result.json"
PRUNED = "pruned.json"  # the numbers of a run that was stopped as hopeless
PREDICTIONS = "predictions.npz"
ATTEMPTS = "attempts"
FAILURE = "failure.json"
WANDB = "wandb.json"  # which wandb run it is, and what of it was uploaded
TEMPORARY_PREFIX = ".writing-"

# a submission: saved_models/submissions/<n>/
CLAIM = "claim.json"  # who makes it, created once
SUBMISSION = "submission.json"  # what came of it, written last
CODE = "code"
COMMIT = "commit.txt"  # in a copy of the code: where it was copied from


def cache_dir() -> Path:
    """What can be made again, for all of a user's processes. Raises OSError without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise FileNotFoundError("no home folder")
    return Path(base) / "cifar10-sweep"


def cache_file(folder: Path, key: str) -> Path:
    """The decoded CIFAR-10 of the batch files with the digest `key`."""
    return folder / f"cifar10-{key}.npy"


def features_file(folder: Path, key: str) -> Path:
    """What a frozen backbone makes of a data set's images."""
    return folder / "features" / f"{key}.npy"


def compute_format_file(folder: Path, key: str) -> Path:
    """What was measured of an architecture on a device."""
    return folder / "arithmetic" / f"{key}.json"


def searches_dir(runs_dir: Path) -> Path:
    """Where searches are kept beside the runs that they made: no model is called that."""
    return runs_dir / "searches"


def submissions_dir(runs_dir: Path) -> Path:
    """Where submissions are kept beside the runs that they train: no model is called that."""
    return runs_dir / "submissions"


def search_log(folder: Path) -> Path:
    """The trials of the search with this folder, as Optuna's journal."""
    return folder.with_name(f"{folder.name}.log")


def found_rate(runs_dir: Path, model: str, key: str) -> Path:
    """The learning rate that was found for a training, whose id without it is `key`."""
    return runs_dir / model / f"learning_rate-{key}.json"


def set_file(sets_dir: Path, number: int) -> Path:
    """The file of set `number` (1, 2, ...)."""
    return sets_dir / f"hyperparameters_{number}.txt"


def weights(kind: str) -> str:
    """The weights file of checkpoint `kind`: best_val_acc, best_val_loss or terminal."""
    return f"{kind}.pt"


def file_name(text: str) -> str:
    """`text` as the name of a file: what could lead out of its folder is replaced."""
    return re.sub(r"[^\w.+-]", "_", text).lstrip(".") or "_"


def shown(path: Path) -> str:
    """A path as a person in the current folder would write it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
