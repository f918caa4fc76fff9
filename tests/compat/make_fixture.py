"""Wrote tests/compat/fixture/: the files of a sweep, as the code of commit bb2b8bc leaves them.

Those files stand for what users have on their disks, which any later code must read. They are never
to be written again by later code, except that what it writes for the first time may be added. The
same files again, with other times and numbers, in a checkout of that commit:

    PYTHONPATH=. OMP_NUM_THREADS=1 python /somewhere/make_fixture.py NEW_FOLDER

Left out of what is written there: in the submission's copy of the code everything but commit.txt,
and what wandb keeps offline beside the runs; nothing of ours reads either. Names of machines,
folders and users are replaced by neutral ones.
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

flow: Any = run_module  # its signature at that commit

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
    precision="float32",  # nothing that is measured on a machine
    memory_format="contiguous",
    convolution="direct",
)
SEARCH = {
    "learning_rate": {"low": 0.001, "high": 0.03, "log": True},
    "batch_size": [10, 15],
}
TEXT = {".json", ".jsonl", ".log", ".out", ".sh", ".txt"}


def project(*words: object, **environment: str) -> None:
    """Run a command line of the project."""
    arguments = [sys.executable, *map(str, words)]
    subprocess.run(arguments, check=True, env={**os.environ, **environment})


def settings(config: RunConfig) -> dict[str, object]:
    """What differs from the defaults, for a YAML file."""
    plain = RunConfig().as_dict()
    return {name: value for name, value in config.as_dict().items() if value != plain[name]}


def steps(count: int) -> Callable[[], bool]:
    """Asks for the end after so many units of work."""
    left = iter(range(count))
    return lambda: next(left, None) is None


def interrupt(config: RunConfig, runs: Path, count: int) -> None:
    """Stop a run in its midst."""
    try:
        flow.run([config], runs_dir=runs, stop=steps(count))
    except Exception as error:
        if type(error).__name__ != "Stopped":
            raise
    else:
        raise AssertionError("it came to its end")


def submitted(runs: Path, folder: Path) -> None:
    """Two runs that differ in label_smoothing alone, by a submission of local workers."""
    grid = {**settings(TINY), "keep_checkpoints": "best", "label_smoothing": [0.0, 0.1]}
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    words = ("--grid", folder / "grid.yaml", "--runs", runs, "--executor", "local")
    project("-m", "src.sweep", "submit", *words, WANDB_MODE="disabled")
    for path in sorted(runs.glob("submissions/*/code/**/*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        elif path.name != "commit.txt":
            path.unlink()


def broken(config: RunConfig, runs: Path) -> None:
    """Fail a run as a bug would; it is to be tried again."""

    def create(name: str, **options: object) -> object:
        raise RuntimeError("out of luck")

    kept, models.create = models.create, create  # type: ignore[assignment]
    flow.run([config], runs_dir=runs)
    models.create = kept


def searched(runs: Path, folder: Path, charts: Path) -> None:
    """A search of two trials."""
    text = yaml.safe_dump({**settings(replace(TINY, num_epochs=2)), "search": SEARCH})
    text = re.sub(r"^(learning_rate|batch_size):.*\n", "", text, flags=re.MULTILINE)
    (folder / "small.yaml").write_text(text)
    words = ("--config", folder / "small.yaml", "--trials", 2, "--runs", runs)
    out = ("--out", charts, "--wandb", "disabled")
    project("-m", "src.tune", "search", *words, *out)


def found(runs: Path, folder: Path, wandb: Path) -> None:
    """A run whose learning rate is found, and which wandb is told of, offline."""
    recipe = {**settings(replace(TINY, num_epochs=1, seed=5)), "learning_rate": "find"}
    (folder / "found.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    words = ("--config", folder / "found.yaml", "--runs", runs, "--wandb", "offline")
    project("src/main.py", *words, WANDB_DIR=str(wandb))


def pruned(runs: Path, folder: Path) -> None:
    """A run that hardly learns, beside better ones of its schedule."""
    hopeless = replace(TINY, learning_rate=1e-7)
    sets.write([[hopeless]], folder / "sets")
    words = ("--sets", folder / "sets", "--runs", runs, "--first-rung", 1, "--reduction", 2)
    project("-m", "src.sweep", "work", *words, "--prune", "--wandb", "disabled")


def neutral(text: str, names: dict[str, str]) -> str:
    """A file without the names of this machine."""
    for here, there in names.items():
        text = text.replace(here, there)
    text = re.sub(r'"(machine|host|node)": "[^"]*"', r'"\1": "node-a"', text)
    return re.sub(r'"user": \d+', '"user": 1000', text)


def main(folder: Path) -> None:
    """Write everything into a new folder."""
    folder = folder.resolve()
    folder.mkdir()
    runs = folder / "runs"
    with tempfile.TemporaryDirectory() as aside:
        submitted(runs, folder)
        flow.run([replace(TINY, seed=1, t_max=t_max) for t_max in (10, 20)], runs_dir=runs)
        flow.run([replace(TINY, learning_rate=1e30, optimizer="sgd")], runs_dir=runs)
        broken(replace(TINY, seed=2), runs)
        pruned(runs, folder)
        # with a checkpoint at each step, of which the last two stay
        interrupt(replace(TINY, seed=3, checkpoint_minutes=0), runs, 15)
        rich: dict[str, Any] = {
            "batch_norm": True,
            "ema": 0.9,
            "data_augmentation": True,
            "dropout": 0.1,
        }
        interrupt(replace(TINY, seed=4, optimizer="sgd", momentum=0.8, **rich), runs, 7)
        found(runs, folder, Path(aside))
        searched(runs, folder, Path(aside))
        words = ("--runs", runs, "--csv", folder / "clean_runs.csv")
        project("-m", "src.report", "aggregate", *words)
    here = {sys.prefix: "/home/user/venv", os.getcwd(): "/home/user/cifar10"}
    names = {str(folder): "/home/user", **here, os.uname().nodename: "node-a"}
    for path in folder.rglob("*"):
        if path.suffix in TEXT:
            path.write_text(neutral(path.read_text(), names))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
