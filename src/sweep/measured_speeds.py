"""The speeds that `estimate` has measured, kept in a runs folder for `submit --time auto`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src.common import files
from src.common.paths import speeds_file
from src.sweep.cost import SpeedKey, TrainingSpeed

_SPEEDS = "speeds"


@dataclass(frozen=True)
class Measurement:
    """The speeds of some kinds of run on one device."""

    device: str
    is_gpu: bool
    speeds: Mapping[SpeedKey, TrainingSpeed]


@dataclass(frozen=True)
class KnownSpeed:
    """A speed from the file, and the name of the device that it was measured on."""

    speed: TrainingSpeed
    device: str


def save(measured: Measurement, runs_dir: Path) -> Path:
    """Add speeds to the file of a runs folder, in place of earlier ones of the same kinds.

    Speeds of CPUs and GPUs are kept beside each other. Returns the file.
    """
    path = speeds_file(runs_dir)
    rows = {_key(row): row for row in _rows(path)}
    for (model, batch, augmented), speed in measured.speeds.items():
        row = {
            "model_type": model,
            "batch_size": batch,
            "data_augmentation": augmented,
            "is_gpu": measured.is_gpu,
            "device": measured.device,
            **asdict(speed),
        }
        rows[_key(row)] = row
    runs_dir.mkdir(parents=True, exist_ok=True)
    files.write_text(path, files.to_json({_SPEEDS: list(rows.values())}))
    return path


def read(runs_dir: Path, *, is_gpu: bool) -> dict[SpeedKey, KnownSpeed]:
    """The speeds on GPUs, or those on CPUs. Rows that cannot be read are left out."""
    known: dict[SpeedKey, KnownSpeed] = {}
    for row in _rows(speeds_file(runs_dir)):
        model, batch, augmented, on_gpu = _key(row)
        if on_gpu is is_gpu:
            numbers = {name: row[name] for name in TrainingSpeed.__dataclass_fields__}
            known[model, batch, augmented] = KnownSpeed(TrainingSpeed(**numbers), row["device"])
    return known


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = (files.read_json(path) or {}).get(_SPEEDS)
    return [row for row in rows if _is_readable(row)] if isinstance(rows, list) else []


def _key(row: Mapping[str, Any]) -> tuple[str, int, bool, bool]:
    return row["model_type"], row["batch_size"], row["data_augmentation"], row["is_gpu"]


def _is_readable(row: Any) -> bool:
    kinds: dict[str, type | tuple[type, ...]] = {
        **dict.fromkeys(("model_type", "device"), str),
        **dict.fromkeys(("batch_size", "slots", "parameters", "features"), int),
        **dict.fromkeys(("data_augmentation", "is_gpu"), bool),
        "images_per_second": (int, float),
    }
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(name), kind) for name, kind in kinds.items())
        and row["images_per_second"] > 0
        and row["slots"] > 0
    )
