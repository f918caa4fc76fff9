"""How runs stand after training: done, pruned, failed, or left to others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.config import RunConfig
from src.data import LoadedData
from src.runs.run_folder import RunFolder, State


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its metrics if it is done or pruned, its failure if it failed."""

    config: RunConfig
    folder: Path
    state: State
    result: dict[str, Any] | None
    failure: dict[str, Any] | None


def outcome(config: RunConfig, folder: RunFolder, datasets: LoadedData) -> Outcome:
    """How a run stands. One on other data than that loaded now is not done, and keeps its files."""
    numbers = folder.result() or folder.pruned()
    dataset = datasets.get(config.data_key)
    trained_on = (numbers or {}).get("data_digest")
    if dataset and trained_on not in (None, dataset.digest):
        message = f"trained on data {trained_on}, and the data here is {dataset.digest}: move the "
        message += "folder, or name the data that it was trained on"
        failure = {"kind": "other data", "message": message}
        return Outcome(config, folder.path, State.PENDING, None, failure)
    return Outcome(config, folder.path, folder.state(), numbers, folder.failure())
