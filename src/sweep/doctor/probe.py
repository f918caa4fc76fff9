"""What a probe job does: python -m src.sweep.doctor.probe FOLDER DATA_PATH DATASET

It reports what it finds in <FOLDER>/probe-<task>.json, looks for the report of the other task, and
waits for the signal that Slurm sends before a time limit. The other task may start much later: it
waits until it has seen both, or the job is cancelled or reaches its own time limit.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.common import files
from src.common.data_names import SYNTHETIC
from src.common.errors import class_and_message

TASKS = 2
_POLL_SECONDS = 0.2


def main(arguments: Sequence[str]) -> None:
    """Report, and report again once the other task was seen and the signal has come."""
    signals: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: signals.append(number))
    folder, data_path, dataset = Path(arguments[0]), arguments[1], arguments[2]
    task = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    report: dict[str, Any] = {"task": task, "node": os.environ.get("SLURMD_NODENAME")}
    report |= {"host": socket.gethostname(), "python": sys.version.split()[0]}
    report |= _environment(data_path, dataset)
    report |= {"sees_other": False, "signal": False}
    path, other = (folder / f"probe-{number}.json" for number in (task, 1 - task))
    files.write_json(path, report)
    while not (report["sees_other"] and report["signal"]):
        time.sleep(_POLL_SECONDS)
        events = {"sees_other": files.read_json(other) is not None, "signal": bool(signals)}
        if not events.items() <= report.items():
            report |= events
            files.write_json(path, report)


def _environment(data_path: str, dataset: str) -> dict[str, Any]:
    """What of the environment works: each problem in one line."""
    problems = []
    versions: dict[str, Any] = {}
    try:
        import torch

        versions = {"torch": torch.__version__, "gpus": torch.cuda.device_count()}
        from src.training.device import device_name, pick_device

        versions["device"] = device_name(pick_device("auto"))  # raises if the job's GPU is unusable
        if data_path != SYNTHETIC and not Path(data_path).exists():
            raise FileNotFoundError(f"{data_path}: not there")  # rather than to download it
        from src import data

        data.load(data_path, dataset)
    except Exception as error:  # noqa: BLE001  whatever it is, it is what the job is to find
        problems.append(class_and_message(error))
    return {**versions, "problems": problems}


if __name__ == "__main__":
    main(sys.argv[1:])
