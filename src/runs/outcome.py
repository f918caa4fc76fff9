"""How runs stand after training: done, pruned, failed, or left to others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.config import RunConfig
from src.data import LoadedData
from src.data.dataset import other_data
from src.runs.run_folder import RunFolder, State

NOT_TRAINED_HERE = "not trained here"
"""Kind of a failure that is not the run's own: another worker may train it."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its metrics if it is done or pruned, its failure if it failed.

    failure also tells why a run that could have been trained was left as it is.
    """

    config: RunConfig
    folder: Path
    state: State
    result: dict[str, Any] | None
    failure: dict[str, Any] | None


def outcome(
    config: RunConfig, folder: RunFolder, datasets: LoadedData, left_out: Mapping[Path, str]
) -> Outcome:
    """How a run stands. One on other data than that loaded now is not done, and keeps its files.

    left_out: why runs were not trained, by folder.
    """
    numbers = folder.result() or folder.pruned()
    dataset = datasets.get(config.data_key)
    trained_on = (numbers or {}).get("data_digest")
    if dataset and trained_on and trained_on != dataset.digest:
        why = {"kind": "other data", "message": other_data(trained_on, dataset.digest)}
        return Outcome(config, folder.path, State.PENDING, None, why)
    reason = None if numbers else left_out.get(folder.path)
    failure = {"kind": NOT_TRAINED_HERE, "message": reason} if reason else folder.failure()
    return Outcome(config, folder.path, folder.state(), numbers, failure)
