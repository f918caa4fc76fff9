"""Script that wrote tests/compat/fixture/: files of a sweep in the format of commit bb2b8bc.

The files represent existing files of users, which later code must read. They must not be rewritten
by later code; only files of a new kind may be added. To write the same files, with other times and
numbers, run in a checkout of that commit:

    PYTHONPATH=. OMP_NUM_THREADS=1 python /somewhere/make_fixture.py NEW_FOLDER

The submission's copy of the code (except commit.txt) and wandb's offline files are left out, since
the project does not read them. Names of machines, folders and users are replaced by neutral ones.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from src import models
from src import run as run_module
from src.config import RunConfig
from src.sweep import sets

flow: Any = run_module  # Any, since its signature differs at that commit

TINY = RunConfig(
    base_dataset_path="synthetic",
    model_type="tinyvgg",
    hidden_units=1,
    initialization="kaiming_normal",
    scheduler="step",
    num_epochs=3,
    batch_size=15,
    max_images=40,
    learning_rate=0.003,
    keep_checkpoints="none",
    precision="float32",  # fixed, since auto depends on the machine
    memory_format="contiguous",
    convolution="direct",
)
SEARCH = {
    "learning_rate": {"low": 0.001, "high": 0.03, "log": True},
    "batch_size": [10, 15],
}
TEXT = {".json", ".jsonl", ".log", ".out", ".sh", ".txt"}


def run_python(*words: object, **environment: str) -> None:
    """Run a command line of the project."""
    arguments = [sys.executable, *map(str, words)]
    subprocess.run(arguments, check=True, env={**os.environ, **environment})


def settings(config: RunConfig) -> dict[str, object]:
    """Return the settings that differ from the defaults, for a YAML file."""
    plain = RunConfig().as_dict()
    return {name: value for name, value in config.as_dict().items() if value != plain[name]}


def steps(count: int) -> Callable[[], bool]:
    """Return a stop condition that is true after `count` calls."""
    remaining = iter(range(count))
    return lambda: next(remaining, None) is None


def interrupt(config: RunConfig, runs: Path, count: int) -> None:
    """Train a run and stop it after `count` steps."""
    try:
        flow.run([config], runs_dir=runs, stop=steps(count))
    except Exception as error:
        if type(error).__name__ != "Stopped":
            raise
    else:
        raise AssertionError("the run was finished")


def submit_two_runs(runs: Path, folder: Path) -> None:
    """Submit two runs that differ in label_smoothing to local workers."""
    grid = {**settings(TINY), "keep_checkpoints": "best", "label_smoothing": [0.0, 0.1]}
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    words = ("--grid", folder / "grid.yaml", "--runs", runs, "--executor", "local")
    run_python("-m", "src.sweep", "submit", *words, WANDB_MODE="disabled")
    for path in sorted(runs.glob("submissions/*/code/**/*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        elif path.name != "commit.txt":
            path.unlink()


def fail_run(config: RunConfig, runs: Path) -> None:
    """Let a run fail with an exception, so that it will be retried."""

    def create(name: str, **options: object) -> object:
        raise RuntimeError("out of luck")

    original_create, models.create = models.create, create  # type: ignore[assignment]
    flow.run([config], runs_dir=runs)
    models.create = original_create


def run_search(runs: Path, folder: Path, charts: Path) -> None:
    """Run a search of two trials."""
    text = yaml.safe_dump({**settings(replace(TINY, num_epochs=2)), "search": SEARCH})
    text = re.sub(r"^(learning_rate|batch_size):.*\n", "", text, flags=re.MULTILINE)
    (folder / "small.yaml").write_text(text)
    words = ("--config", folder / "small.yaml", "--trials", 2, "--runs", runs)
    out = ("--out", charts, "--wandb", "disabled")
    run_python("-m", "src.tune", "search", *words, *out)


def train_with_found_rate(runs: Path, folder: Path, wandb: Path) -> None:
    """Train a run with learning rate `find` and offline wandb logging."""
    recipe = {**settings(replace(TINY, num_epochs=1, seed=5)), "learning_rate": "find"}
    (folder / "found.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    words = ("--config", folder / "found.yaml", "--runs", runs, "--wandb", "offline")
    run_python("src/main.py", *words, WANDB_DIR=str(wandb))


def train_pruned_run(runs: Path, folder: Path) -> None:
    """Train a run that is pruned, since it learns less than others of its schedule."""
    hopeless = replace(TINY, learning_rate=1e-7)
    sets.write([[hopeless]], folder / "sets")
    words = ("--sets", folder / "sets", "--runs", runs, "--first-rung", 1, "--reduction", 2)
    run_python("-m", "src.sweep", "work", *words, "--prune", "--wandb", "disabled")


def anonymize(text: str, names: dict[str, str]) -> str:
    """Replace machine, folder and user names in a text."""
    for here, there in names.items():
        text = text.replace(here, there)
    text = re.sub(r'"(machine|host|node)": "[^"]*"', r'"\1": "node-a"', text)
    return re.sub(r'"user": \d+', '"user": 1000', text)


def main(folder: Path) -> None:
    """Write all files into a new folder."""
    folder = folder.resolve()
    folder.mkdir()
    runs = folder / "runs"
    with tempfile.TemporaryDirectory() as temporary:
        submit_two_runs(runs, folder)
        flow.run([replace(TINY, seed=1, t_max=t_max) for t_max in (10, 20)], runs_dir=runs)
        flow.run([replace(TINY, learning_rate=1e30, optimizer="sgd")], runs_dir=runs)
        fail_run(replace(TINY, seed=2), runs)
        train_pruned_run(runs, folder)
        # with a checkpoint after each step, of which the last two are kept
        interrupt(replace(TINY, seed=3, checkpoint_minutes=0), runs, 15)
        more_settings: dict[str, Any] = {
            "batch_norm": True,
            "ema": 0.9,
            "data_augmentation": True,
            "dropout": 0.1,
        }
        interrupt(replace(TINY, seed=4, optimizer="sgd", momentum=0.8, **more_settings), runs, 7)
        train_with_found_rate(runs, folder, Path(temporary))
        run_search(runs, folder, Path(temporary))
        words = ("--runs", runs, "--csv", folder / "clean_runs.csv")
        run_python("-m", "src.report", "aggregate", *words)
    here = {sys.prefix: "/home/user/venv", os.getcwd(): "/home/user/cifar10"}
    names = {str(folder): "/home/user", **here, os.uname().nodename: "node-a"}
    for path in folder.rglob("*"):
        if path.suffix in TEXT:
            path.write_text(anonymize(path.read_text(), names))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
