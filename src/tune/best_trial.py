"""The best trial of a search, as text, as JSON and as a recipe."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from src.common import files
from src.common.json_text import json_text
from src.common.paths import shown
from src.config import RunConfig, given_names
from src.runs.run_folder import RunFolder
from src.tune.study import TrialStudy

_MACHINE = ("base_dataset_path", "parent_weights", "device")
"""Settings that depend on the machine, which a recipe leaves out."""


def best(search: TrialStudy) -> dict[str, Any] | None:
    """The trial with the lowest validation loss, and trial counts. Returns None without one."""
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
    """Number of complete, pruned, failed and running trials."""
    by_state = Counter(trial.state.name for trial in search.trials())
    words = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL", "running": "RUNNING"}
    return {word: by_state[state] for word, state in words.items()}


def counted(numbers: Mapping[str, int]) -> str:
    """Format the counts that are not zero."""
    return ", ".join(f"{count} {word}" for word, count in numbers.items() if count)


def as_json(best_found: Mapping[str, Any], recipe: Path) -> str:
    """The best trial as JSON."""
    return json_text({**best_found, "recipe": shown(recipe)})


def as_text(best_found: Mapping[str, Any], recipe: Path) -> str:
    """The best trial as text."""
    width = max(len(name) for name in best_found["parameters"])
    return "\n".join(
        [
            f"trials:  {counted(best_found['trials'])}",
            f"best:    trial {best_found['trial']}, validation loss {best_found['val_loss']:.4f}",
            *(
                f"         {name:<{width}}  {value}"
                for name, value in best_found["parameters"].items()
            ),
            f"run:     {best_found['run']}",
            f"recipe:  {shown(recipe)}",
            f"charts:  {shown(recipe.parent)}/",
        ]
    )


def write_recipe(search: TrialStudy, best_found: Mapping[str, Any], out: Path) -> Path:
    """Write <out>/<stem of the search>_best.yaml, which src/main.py trains again."""
    config, path = (
        search.space.config(best_found["parameters"]),
        out / f"{search.space.stem}_best.yaml",
    )
    count = sum(best_found["trials"].values())
    data = " -d synthetic" if config.is_synthetic else ""
    out.mkdir(parents=True, exist_ok=True)
    files.write_text(
        path,
        f"# The best of {count} trials of the search {best_found['study']}: "
        f"trial {best_found['trial']}, validation loss {best_found['val_loss']:.4f}.\n"
        f"# python src/main.py --config {shown(path)}{data}\n"
        + yaml.safe_dump(_recipe(config, search.space.dimensions), sort_keys=False),
    )
    return path


def _recipe(config: RunConfig, searched: Mapping[str, object]) -> dict[str, object]:
    """The settings that were searched, and those that differ from their default."""
    return {
        spec.name: getattr(config, spec.name)
        for spec in fields(config)
        if spec.name not in _MACHINE
        and spec.name in given_names()
        and (spec.name in searched or getattr(config, spec.name) != spec.default)
    }
