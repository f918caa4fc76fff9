"""What a search has found: its best trial, as text, as JSON and as a recipe."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from src.common import files
from src.common.paths import shown
from src.config import RunConfig
from src.runs.run_folder import RunFolder
from src.tune.study import TrialStudy

_MACHINE = ("base_dataset_path", "parent_weights", "device")
"""Settings of where a run happens, which are no part of a recipe."""


def best(search: TrialStudy) -> dict[str, Any] | None:
    """The trial with the lowest validation loss and how the search stands; None without one."""
    trial = search.best()
    if trial is None:
        return None
    config = search.space.config(trial.params)
    return {
        "study": search.space.name,
        "trial": trial.number,
        "val_loss": trial.value,
        "parameters": {name: getattr(config, name) for name in search.space.dimensions},
        "run_id": config.id,
        "run": shown(RunFolder.of(config, search.runs_dir).path),
        "trials": counts(search),
    }


def counts(search: TrialStudy) -> dict[str, int]:
    """How many trials are complete, pruned, failed and still running."""
    found = Counter(trial.state.name for trial in search.trials())
    words = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL", "running": "RUNNING"}
    return {word: found[state] for word, state in words.items()}


def counted(numbers: Mapping[str, int]) -> str:
    """Counts in words: those that there are."""
    return ", ".join(f"{count} {word}" for word, count in numbers.items() if count)


def as_json(found: Mapping[str, Any], recipe: Path) -> str:
    """The best trial for another program."""
    return json.dumps({**found, "recipe": shown(recipe)}, indent=2)


def as_text(found: Mapping[str, Any], recipe: Path) -> str:
    """The best trial for a person."""
    width = max(len(name) for name in found["parameters"])
    return "\n".join(
        [
            f"trials:  {counted(found['trials'])}",
            f"best:    trial {found['trial']}, validation loss {found['val_loss']:.4f}",
            *(f"         {name:<{width}}  {value}" for name, value in found["parameters"].items()),
            f"run:     {found['run']}",
            f"recipe:  {shown(recipe)}",
            f"charts:  {shown(recipe.parent)}/",
        ]
    )


def write_recipe(search: TrialStudy, found: Mapping[str, Any], out: Path) -> Path:
    """Write <out>/<stem of the search>_best.yaml, with which src/main.py repeats the best run."""
    config, path = search.space.config(found["parameters"]), out / f"{search.space.stem}_best.yaml"
    count = sum(found["trials"].values())
    data = " -d synthetic" if config.dataset == "synthetic" else ""
    out.mkdir(parents=True, exist_ok=True)
    files.write_text(
        path,
        f"# The best of {count} trials of the search {found['study']}: trial {found['trial']}, "
        f"validation loss {found['val_loss']:.4f}.\n"
        f"# python src/main.py --config {shown(path)}{data}\n"
        + yaml.safe_dump(_recipe(config, search.space.dimensions), sort_keys=False),
    )
    return path


def _recipe(config: RunConfig, searched: Mapping[str, object]) -> dict[str, object]:
    """What was searched, and what differs from a default."""
    return {
        spec.name: getattr(config, spec.name)
        for spec in fields(config)
        if spec.name not in _MACHINE
        and (spec.name in searched or getattr(config, spec.name) != spec.default)
    }
