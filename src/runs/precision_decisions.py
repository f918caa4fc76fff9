"""What `--precision auto` means in a runs folder, decided once for all that share it.

A grid over different nodes would otherwise mix bfloat16 and float32 under the same run ids. The
decision is for an architecture with its options and a kind of device. It is published with link(2):
of two processes that decide at the same moment, the second one takes what the first has decided.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch

from src import models
from src.common import files
from src.common.errors import NotTrainedHere, UserError
from src.common.paths import precision_decision_file, shown
from src.config import RunConfig
from src.runs.run_folder import RunFolder, all_runs
from src.training.device import device_name, pick_device
from src.training.precision import allowed_precisions

AUTO = "auto"


class PrecisionDecisions:
    """The decisions of a runs folder, each read or made at most once by this process."""

    def __init__(self, runs_dir: Path, *, mixed: bool = False) -> None:
        """mixed: train also on a device that cannot do what was decided."""
        self.runs_dir, self.mixed = runs_dir, mixed
        self._known: dict[Path, str] = {}

    def known(self, config: RunConfig) -> str | None:
        """The precision that was decided for a run. None if none was, or its config names one."""
        if config.precision != AUTO:
            return None
        path = self._path(config)
        if path not in self._known and (decided := _read(path)):
            self._known[path] = decided
        return self._known.get(path)

    def decide(self, config: RunConfig, measured: str) -> str:
        """The precision of a run. If none is decided yet, it is that of earlier runs or `measured`.

        Raises NotTrainedHere if this device cannot do it.
        """
        if config.precision != AUTO:
            return measured
        decided = self.known(config) or self._publish(config, measured)
        self._known[self._path(config)] = decided
        if why := self.refusal(config):
            raise NotTrainedHere(why)
        return decided

    def refusal(self, config: RunConfig) -> str | None:
        """Why a run is not trained on this device. None if it can be."""
        decided = None if self.mixed else self.known(config)
        if decided is None:
            return None
        device = pick_device(config.device)
        if decided in allowed_precisions(config, device):
            return None
        return (
            f"precision auto is {decided} in this sweep "
            f"({shown(self._path(config))}), which {device_name(device)} does not do well; "
            "train it on another node, name a --precision, or allow --mixed"
        )

    def _path(self, config: RunConfig) -> Path:
        kind = pick_device(config.device).type
        options = json.dumps(models.options_of(config), sort_keys=True)
        digest = hashlib.sha256(options.encode()).hexdigest()[:10]
        return precision_decision_file(self.runs_dir, f"{config.model_name}-{kind}-{digest}")

    def _publish(self, config: RunConfig, measured: str) -> str:
        """Make the decision, unless another process is faster: then the one that it made."""
        path, device = self._path(config), pick_device(config.device)
        earlier = set(self._earlier(config, device))
        decision = earlier.pop() if len(earlier) == 1 else measured
        record = {
            "precision": decision,
            "model_type": config.model_type,
            "device": device_name(device),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        if files.create_json(path, record):
            return decision
        if decided := _read(path):
            return decided
        files.write_json(path, record)  # the existing file is damaged
        return decision

    def _earlier(self, config: RunConfig, device: torch.device) -> Iterator[str]:
        """The precisions of finished runs from before there were decisions."""
        options = models.options_of(config)
        for folder in all_runs(self.runs_dir, config.model_name) if self.runs_dir.is_dir() else ():
            result = folder.result()
            is_here = result and _kind(str(result.get("device"))) == device.type
            if result and is_here and _is_auto_with(folder, options):
                yield str(result["precision"])


def _read(path: Path) -> str | None:
    return (files.read_json(path) or {}).get("precision")


def _kind(name: str) -> str:
    """The kind of a device, from its name in a result."""
    return "cpu" if name.startswith("cpu") else "cuda"


def _is_auto_with(folder: RunFolder, options: dict[str, object]) -> bool:
    try:
        config = folder.run_config()
        return config.precision == AUTO and models.options_of(config) == options
    except UserError:
        return False
