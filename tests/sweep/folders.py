"""Write run folders like those of real runs, without training."""

import itertools
import json
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from src.config import RunConfig
from src.runs.run_folder import RunFolder

OTHER_MACHINE = {"machine": "another machine", "pid": 1, "start": 0.0}
_starts = itertools.count(1.0)


def attempt(seconds: float, ended: str | None = None, **record: Any) -> dict[str, Any]:
    """Return the record of an attempt that lasted `seconds`; put() derives its times."""
    end_fields = {} if ended is None else {"ended": ended}
    beats = int(seconds // 30)
    return {
        "host": "n1",
        "heartbeat": beats,
        **end_fields,
        **record,
        "_": seconds,
    }


def put(
    runs: Path,
    config: RunConfig,
    *,
    tries: Sequence[dict[str, Any]] = (),
    epochs: Sequence[float] = (),
    accuracy: float | None = None,
    pruned: float | None = None,
    failure: Mapping[str, Any] | str | None = None,
    resumable: bool = False,
    silent: float = 0.0,
) -> Path:
    """Write a run folder; epochs: seconds of each epoch; silent: seconds since the last write."""
    path = RunFolder.of(config, runs).path
    (path / "attempts").mkdir(parents=True)
    (path / "cells").mkdir()
    write(path / "config.json", config.canonical().as_dict())
    write(path / "cells" / f"{config.cell}.json", config.as_dict())
    for number, record in enumerate(tries, 1):
        _put_attempt(path / "attempts" / f"{number}.json", number, dict(record), silent)
    if epochs:
        rows = [{"epoch": n, "val_accuracy": 0.5, "seconds": s} for n, s in enumerate(epochs, 1)]
        (path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, value in (("result", accuracy), ("pruned", pruned)):
        if value is not None:
            write(path / f"{name}.json", numbers(config, value))
    if failure is not None:
        write(path / "failure.json", failure)
    if resumable:
        (path / "resume.pt").write_bytes(b"weights")
    return path


def numbers(config: RunConfig, accuracy: float) -> dict[str, Any]:
    """Return the fields of result.json; the test accuracy is 0.1 below `accuracy`."""
    best = {"best_val_accuracy": accuracy, "test_accuracy_best_val_acc": accuracy - 0.1}
    return {
        "run_id": config.id,
        "epochs_run": config.num_epochs,
        "stop_reason": "completed",
        **best,
    }


def write(path: Path, value: Mapping[str, Any] | str) -> None:
    """Write a mapping as JSON, or a string unchanged."""
    path.write_text(value if isinstance(value, str) else json.dumps(value, indent=2))


def _put_attempt(path: Path, number: int, record: dict[str, Any], silent: float) -> None:
    written = time.time() - silent
    started = datetime.fromtimestamp(written - record.pop("_"), UTC)
    process = {**OTHER_MACHINE, "start": next(_starts)}  # unless the record names one
    base = {"attempt": number, "slurm_job_id": None, "process": process}
    write(path, {**base, "started": started.isoformat(), **record})
    os.utime(path, (written, written))
