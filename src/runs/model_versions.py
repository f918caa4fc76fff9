"""Versions of an architecture of a person's own: what an edit of its source means for its runs."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from src.common.errors import UserError
from src.common.model_source import code_of
from src.common.paths import shown
from src.config import RunConfig
from src.runs.run_folder import RunFolder, all_runs


def changes(configs: Iterable[RunConfig], runs_dir: Path) -> list[str]:
    """A line for each architecture that was edited since the same settings were trained with it.

    Runs that have a folder are not new, and are not counted.
    """
    by_model: dict[str, dict[str, RunConfig]] = {}
    for config in configs:
        if config.model_digest and not RunFolder.of(config, runs_dir).path.exists():
            by_model.setdefault(config.model_type, {})[config.id] = config
    lines = (_change(model, list(new.values()), runs_dir) for model, new in by_model.items())
    return [line for line in lines if line]


def _change(model_type: str, new: Sequence[RunConfig], runs_dir: Path) -> str | None:
    folder = runs_dir / new[0].model_name
    earlier = _with_digest(new[0], runs_dir) if folder.is_dir() else []
    count = len({config.id for config in new} & set(earlier))
    reference = code_of(model_type)
    if not count or reference is None:
        return None
    runs = "1 run is new" if count == 1 else f"{count} runs are new"
    return f"{reference.place} has changed since the runs in {shown(folder)}: {runs}"


def _with_digest(current: RunConfig, runs_dir: Path) -> list[str]:
    """The ids that the runs of an architecture would have with the current version of it."""
    ids = []
    for folder in all_runs(runs_dir, current.model_name):
        try:
            config = folder.run_config()
        except UserError:
            continue
        if config.model_digest not in (None, current.model_digest):
            ids.append(replace(config, model_digest=current.model_digest).id)
    return ids
