"""Every file name that the project reads or writes."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# defaults of the command line, relative to the repository
SETS_DIR = ROOT / "hyperparameter_sets"
RUNS_DIR = ROOT / "saved_models"
CSV_FILE = ROOT / "clean_runs.csv"
REPORT_DIR = ROOT / "report"

# where architectures are registered
MODELS_PACKAGE = ROOT / "src" / "models"

# the CIFAR-10 python version, as its authors publish it
CIFAR10_FOLDER = "cifar-10-batches-py"
TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_BATCH = "test_batch"

# a run folder: saved_models/<model>/<run name>-<id>/
CONFIG = "config.json"
CELLS = "cells"  # one file for each grid cell of this run
HISTORY = "history.jsonl"
RESUME = "resume.pt"
RESUME_BEFORE = "resume.before.pt"
RESULT = "result.json"
PRUNED = "pruned.json"  # the metrics of a pruned run, in place of result.json
PREDICTIONS = "predictions.npz"
ATTEMPTS = "attempts"
FAILURE = "failure.json"
CLEANED = "cleaned.json"  # what `python -m src.sweep clean` has removed of the run
WANDB = "wandb.json"  # id of the wandb run, and the state in which it was uploaded
TEMPORARY_PREFIX = ".writing-"

# a submission: saved_models/submissions/<n>/
CLAIM = "claim.json"  # the process that makes it; created once
SUBMISSION = "submission.json"  # what was submitted; written last
CODE = "code"
COMMIT = "commit.txt"  # in a copy of the code: the commit that was copied
OWN_MODELS = "own_models"  # in a copy of the code: source of architectures that were named


def cache_dir() -> Path:
    """Folder for what can be computed again, shared by a user's processes. Raises OSError."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise FileNotFoundError("no home folder")
    return Path(base) / "cifar10-sweep"


def cache_file(folder: Path, key: str) -> Path:
    """The decoded images of the CIFAR-10 batch files with the digest `key`."""
    return folder / f"cifar10-{key}.npy"


def features_file(folder: Path, key: str) -> Path:
    """The features of a data set's images under a frozen backbone."""
    return folder / "features" / f"{key}.npy"


def compute_format_file(folder: Path, key: str) -> Path:
    """The measured compute format of an architecture on a device."""
    return folder / "arithmetic" / f"{key}.json"


def compiled_file(folder: Path, key: str) -> Path:
    """A kernel compiled for a processor."""
    return folder / "kernels" / f"{key}.so"


def searches_dir(runs_dir: Path) -> Path:
    """Folder of the searches, beside the run folders. No model has this name."""
    return runs_dir / "searches"


def submissions_dir(runs_dir: Path) -> Path:
    """Folder of the submissions, beside the run folders. No model has this name."""
    return runs_dir / "submissions"


def confirmations_dir(runs_dir: Path) -> Path:
    """Folder of the confirmations, a folder for each architecture. No model has this name."""
    return runs_dir / "confirmations"


def confirmation_sets_dir(runs_dir: Path) -> Path:
    """Set files of the runs that confirmations lack. No model has this name."""
    return confirmations_dir(runs_dir) / "sets"


def precision_decision_file(runs_dir: Path, key: str) -> Path:
    """What precision auto means for the runs with this key. No model has the folder's name."""
    return runs_dir / "precision" / f"{key}.json"


def node_failures_dir(runs_dir: Path) -> Path:
    """Folder of the failures that are evidence against a node."""
    return runs_dir / "node_failures"


def slurm_jobs_dir(runs_dir: Path) -> Path:
    """Folder of the restarts of Slurm jobs, a file for each job."""
    return runs_dir / "slurm_jobs"


def search_log(folder: Path) -> Path:
    """Optuna's journal of the search with this folder."""
    return folder.with_name(f"{folder.name}.log")


def suggested_rate_file(runs_dir: Path, model: str, key: str) -> Path:
    """The learning rate that a range test suggested for the run whose id without it is `key`."""
    return runs_dir / model / f"learning_rate-{key}.json"


def speeds_file(runs_dir: Path) -> Path:
    """The speeds that `python -m src.sweep estimate` has measured, for submit --time auto."""
    return runs_dir / "speeds.json"


def set_file(sets_dir: Path, number: int) -> Path:
    """The file of a set, given its number from 1."""
    return sets_dir / f"hyperparameters_{number}.txt"


def weights(kind: str) -> str:
    """The weights file of checkpoint `kind`: best_val_acc, best_val_loss or terminal."""
    return f"{kind}.pt"


def file_name(text: str) -> str:
    """`text` as a file name: characters that could lead out of the folder are replaced."""
    return re.sub(r"[^\w.+-]", "_", text).lstrip(".") or "_"


def run_name(folder: Path) -> str:
    """The name of the run in a folder: `<run name>-<id>` without the id."""
    return folder.name.rpartition("-")[0]


def run_id(folder: Path) -> str:
    """The id of the run in a folder: the end of `<run name>-<id>`."""
    return folder.name.rpartition("-")[2]


def shown(path: Path) -> str:
    """A path relative to the current folder, or as it is if it lies outside of it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
