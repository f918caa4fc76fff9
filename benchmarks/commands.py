"""Run time of commands on large sweeps: python -m benchmarks.commands, or make bench-commands

Each command runs in a new process. Submissions go to the Slurm cluster that SLURM_CONF names, if
there is one (slurm_cluster/rehearsal/up.sh), and are cancelled afterwards.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from benchmarks.record import RESULTS, Record, Table
from src.cli.arguments import Parser, positive_int
from src.cli.entry_point import run_main
from src.common import paths
from src.common.errors import ExitStatus
from src.common.paths import ROOT
from src.config import CHECKPOINT_KINDS, RunConfig
from src.data.spec import CLASSES
from src.runs.run_folder import RunFolder
from src.slurm import client
from src.sweep import grid

_CONFIG = RunConfig(base_dataset_path="made-up", model_type="cnn")
_SUBMIT_SECONDS, _AGAIN_SECONDS, _STATUS_SECONDS, _AGGREGATE_SECONDS = 5, 2, 3, 15


def main(arguments: Sequence[str]) -> ExitStatus:
    """Measure all commands and write the table."""
    parser = Parser(prog="python -m benchmarks.commands", description=__doc__)
    parser.add_argument("--rounds", type=positive_int, default=3, metavar="N", help="[3]")
    parser.add_argument("--runs", type=positive_int, default=10_000, metavar="N", help="[10000]")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    parsed = parser.parse(arguments)
    record = Record("commands", torch.device("cpu"), {"rounds": parsed.rounds}, parsed.out)
    columns = ("command", "runs", "seconds, median", "seconds, all", "limit")
    table = record.table("Commands of large sweeps", columns)
    with tempfile.TemporaryDirectory(prefix="commands-") as folder:
        _measure_submit(record, table, Path(folder), parsed.rounds)
        _measure_status_and_aggregate(
            record, table, Path(folder, "many"), parsed.runs, parsed.rounds
        )
    record.print_path()
    return ExitStatus.DONE


def _measure_submit(record: Record, table: Table, folder: Path, rounds: int) -> None:
    """Measure submit with all runs of the reference grid to train, then with none."""
    configs = grid.expand(dict(grid.REFERENCE))
    runs = ["--sets", str(paths.SETS_DIR), "--runs"]
    if _has_slurm():
        times = []
        for number in range(rounds):
            words = [*runs, str(folder / f"submitted-{number}"), "--json", "--workers", "8"]
            seconds, output = _timed("submit", *words)
            times.append(seconds)
            jobs = [job for group in json.loads(output)["groups"] for job in group["jobs"]]
            subprocess.run(["scancel", *jobs], check=True, timeout=60)
        _add(record, table, "submit", len(configs), times, _SUBMIT_SECONDS)
        executor = "slurm"
    else:
        table.notes.append("no Slurm cluster here: submit was measured with nothing to submit only")
        print(table.notes[-1], file=sys.stderr)
        executor = "local"
    for config in {config.id: config for config in configs}.values():
        _write_finished_run(config, folder / "done")
    words = [*runs, str(folder / "done"), "--executor", executor]
    _timed("submit", *words)  # registers the cells of equal trainings
    times = [_timed("submit", *words)[0] for _ in range(rounds)]
    _add(record, table, "submit, all done", len(configs), times, _AGAIN_SECONDS)


def _has_slurm() -> bool:
    """Whether SLURM_CONF names a cluster that answers, as a rehearsal cluster's does."""
    return bool(os.environ.get("SLURM_CONF") and client.has_sbatch() and client.cluster_config())


def _measure_status_and_aggregate(
    record: Record, table: Table, folder: Path, number: int, rounds: int
) -> None:
    for seed in range(number):
        _write_finished_run(replace(_CONFIG, seed=seed), folder)
    status = ("status", "--all", "--runs", str(folder))
    times = [_timed(*status)[0] for _ in range(rounds)]
    _add(record, table, "status", number, times, _STATUS_SECONDS)
    csv = ("aggregate", "--runs", str(folder), "--csv", str(folder.parent / "table.csv"))
    times = [_timed(*csv, package="src.report")[0] for _ in range(rounds)]
    _add(record, table, "aggregate", number, times, _AGGREGATE_SECONDS)


def _write_finished_run(config: RunConfig, runs_dir: Path) -> None:
    """Write the folder of a finished run with invented numbers."""
    folder = RunFolder.of(config, runs_dir)
    (folder.path / paths.CELLS).mkdir(parents=True)
    (folder.path / paths.ATTEMPTS).mkdir()
    text = json.dumps(config.as_dict(), indent=2)
    (folder.path / paths.CONFIG).write_text(text)
    (folder.path / paths.CELLS / f"{config.cell}.json").write_text(text)
    started = "2026-01-01T00:00:00+00:00"
    record = {"attempt": 1, "heartbeat": 20, "ended": "done", "started": started}
    (folder.path / paths.ATTEMPTS / "1.json").write_text(json.dumps(record))
    (folder.path / paths.RESULT).write_text(json.dumps(_result(config)))


def _result(config: RunConfig) -> dict[str, object]:
    names = ["accuracy", "loss", "per_class_accuracy"]
    names += [f"per_class_accuracy_{name}" for name in CLASSES]
    parts = [f"test_{name}_{kind}" for kind in CHECKPOINT_KINDS for name in names]
    parts += [f"{part}_{name}" for part in ("train", "val") for name in names]
    return {
        **dict.fromkeys(parts, 0.123456789),
        "run_id": config.id,
        "epochs_run": 3,
        "best_epoch": 2,
        "best_val_accuracy": 0.5,
        "stop_reason": "completed",
        "train_seconds": 100.0,
        "images_per_second": 1000.0,
        "precision": "float32",
        "device": "made up",
        "git_commit": "made up",
    }


def _timed(command: str, *words: str, package: str = "src.sweep") -> tuple[float, str]:
    """Run a command; return its wall-clock seconds and its output."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", package, command, *words],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return time.perf_counter() - started, done.stdout


def _add(
    record: Record, table: Table, name: str, runs: int, times: Sequence[float], limit: float
) -> None:
    all_times = " ".join(f"{seconds:.2f}" for seconds in times)
    record.add(table, (name, runs, round(median(times), 2), all_times, limit))


if __name__ == "__main__":
    run_main(main)
