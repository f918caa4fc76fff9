"""Disturbances on a rehearsal cluster: preemption, requeues, killed Slurm daemons."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from src.common import files, paths
from src.common.paths import ROOT
from src.sweep import grid
from tests.chaos import harness
from tests.chaos.disturbances import Figures
from tests.chaos.harness import GuaranteeViolated

GRID = """
base_dataset_path: synthetic
model_type: cifar10net
learning_rate: [{rates}]
num_epochs: {epochs}
batch_size: 50
max_images: 1000
precision: float32
memory_format: contiguous
"""
# fields of a result that differ between equal trainings, or after a commit
VARYING_FIELDS = ("train_seconds", "images_per_second", "attempt", "seconds", "git_commit")
_WORKERS = 4
_PATIENCE_SECONDS = 900.0
_DOWN_SECONDS = 12.0  # downtime of a killed slurmd or slurmctld
_ACCEPTED_STATES = ("COMPLETED", "PREEMPTED", "REQUEUED", "NODE_FAIL", "RUNNING", "PENDING")

Disturb = Callable[[Path, Path], int]
"""Disturb the cluster in a folder and the sweep with logs in another; return the count so far."""


@contextmanager
def cluster(folder: Path, grace: int) -> Iterator[Path]:
    """Start a rehearsal cluster in `folder` and set SLURM_CONF."""
    scripts = ROOT / "slurm_cluster" / "rehearsal"
    environment = {**os.environ, "GRACE": str(grace)}
    words = {"check": True, "timeout": 180, "stdout": subprocess.DEVNULL}
    subprocess.run([scripts / "up.sh", folder], env=environment, **words)  # type: ignore[call-overload]
    before = os.environ.get("SLURM_CONF")
    os.environ |= {"SLURM_CONF": str(folder / "conf" / "slurm.conf"), "OMP_NUM_THREADS": "1"}
    try:
        yield folder
    finally:
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before
        subprocess.run([scripts / "down.sh", folder], **words)  # type: ignore[call-overload]


def run_disturbed_sweeps(
    folder: Path, cluster_folder: Path, *, disturb: Disturb, times: int
) -> Figures:
    """Submit sweeps and disturb them `times` times; all must end with undisturbed results.

    cluster_folder: of the rehearsal cluster, which must have a short path.
    """
    runs, epochs = (4, 4) if times < 4 else (8, 12)
    rates = ", ".join(f"0.00{number}" for number in range(1, runs + 1))
    (folder / "grid.yaml").write_text(GRID.format(rates=rates, epochs=epochs))
    undisturbed = folder / "calm"
    _submit(folder, undisturbed, "--executor", "inline")
    disturbed = sweeps = 0
    while disturbed < times:
        sweeps += 1
        runs_dir = folder / f"disturbed-{sweeps}"
        _submit(folder, runs_dir, "--workers", _WORKERS, "--cpus", 4, "--time", 30)
        logs = runs_dir / "submissions" / "1" / "logs"
        wait_until(lambda logs=logs: "epoch" in logs_text(logs), "a worker trains")  # type: ignore[misc]
        before = disturbed
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while queued():
            if disturbed < times:
                disturbed = before + disturb(cluster_folder, logs)
            _resume_nodes_and_release_jobs()
            if time.monotonic() > deadline:
                raise GuaranteeViolated(
                    f"unfinished after {_PATIENCE_SECONDS:g} s:\n{logs_text(logs)[-3000:]}"
                )
            time.sleep(0.5)
        _require_same(runs_dir, undisturbed)
        if disturbed == before:
            raise GuaranteeViolated("the sweep ended before it was disturbed: nothing was tested")
    failed = [state for state in _states() if state not in _ACCEPTED_STATES]
    if failed:
        raise GuaranteeViolated(f"job states: {failed}")
    return {"sweeps": sweeps, "disturbances": disturbed, "jobs failed": 0}


def _resume_nodes_and_release_jobs() -> None:
    """Resume nodes and release jobs, as an administrator does after slurmctld lost its state.

    slurmctld then takes running jobs for duplicates, drains their nodes and holds the jobs.
    """
    duplicates = _run_slurm_command("sinfo", "-h", "-N", "-p", "gpu", "-o", "%N %E").stdout
    for node in re.findall(r"(\S+) Duplicate jobid", duplicates):
        _run_slurm_command("scontrol", "update", f"NodeName={node}", "State=RESUME")
    held = _run_slurm_command("squeue", "-h", "--array", "-t", "PENDING", "-o", "%i %r").stdout
    for job in re.findall(r"(\S+) launch failed requeued held", held):
        _run_slurm_command("scontrol", "release", job)


def preempt(cluster_folder: Path, logs: Path) -> int:
    """Preempt all workers with urgent jobs; return the number of restarts so far."""
    urgent = ["sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null"]
    jobs = [slurm_output(*urgent, "--wrap=sleep 1").strip() for _ in range(_WORKERS)]
    wait_until(lambda: not set(jobs) & queued("urgent"), "urgent jobs are done")
    wait_until(lambda: "RUNNING" in _states_now() or not queued(), "workers are back")
    time.sleep(6)  # give the workers time to train
    return restarts(logs)


def kill_slurmd(cluster_folder: Path, logs: Path) -> int:
    """Kill and restart the slurmd of a node with a worker; return the number of kills so far."""
    nodes = slurm_output("squeue", "-h", "-t", "RUNNING", "-o", "%N").split()
    if nodes:
        _restart_daemon(cluster_folder, f"slurmd-{nodes[0]}")
    return _count(logs, bool(nodes))


def kill_slurmctld(cluster_folder: Path, logs: Path) -> int:
    """Kill and restart slurmctld; return the number of kills so far."""
    _restart_daemon(cluster_folder, "slurmctld")
    return _count(logs, 1)


def requeue(cluster_folder: Path, logs: Path) -> int:
    """Requeue a worker with scontrol; return the number of restarts so far."""
    running = slurm_output("squeue", "-h", "--array", "-t", "RUNNING", "-o", "%i").split()
    if running:
        subprocess.run(["scontrol", "requeue", running[0]], capture_output=True, timeout=60)
        time.sleep(8)
    return restarts(logs)


def in_turn(*disturbances: Disturb) -> Disturb:
    """Return a disturbance that applies several in turn, and returns their number so far."""

    def disturb(cluster_folder: Path, logs: Path) -> int:
        disturbances[_count(logs, 0, "turns") % len(disturbances)](cluster_folder, logs)
        return _count(logs, 1, "turns")

    return disturb


def restarts(logs: Path) -> int:
    """Return how often the workers that write to `logs` were restarted."""
    return sum(int(number) > 0 for number in re.findall(r"\(restart (\d+)\)", logs_text(logs)))


def _count(logs: Path, more: int, name: str = "kills") -> int:
    """Add `more` to a counter of the sweep with these logs, and return it."""
    marker = logs.with_name(name)
    count = more + (int(marker.read_text()) if marker.exists() else 0)
    marker.write_text(str(count))
    return count


def _restart_daemon(cluster_folder: Path, name: str) -> None:
    """Kill a daemon of the cluster and restart it after some seconds."""
    pids = cluster_folder / "run" / "pids"
    lines = [line.split() for line in pids.read_text().splitlines()]
    pid = next(int(pid) for daemon, pid in reversed(lines) if daemon == name)
    process = psutil.Process(pid)
    words = [word for word in process.cmdline() if word != "-c"]  # -c would clear the state
    process.kill()
    time.sleep(_DOWN_SECONDS)
    with (cluster_folder / "log" / f"{name}.log").open("ab") as log:
        again = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    with pids.open("a") as file:
        file.write(f"{name} {again.pid}\n")
    wait_until(lambda: _run_slurm_command("sinfo").returncode == 0, "slurmctld answers")


def _submit(folder: Path, runs_dir: Path, *words: object) -> None:
    command = ("python", "-m", "src.sweep", "submit", "--grid", folder / "grid.yaml")
    submitted = subprocess.run(
        [str(word) for word in (*command, "--runs", runs_dir, *words)],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if submitted.returncode:
        raise GuaranteeViolated(f"submit ended with {submitted.returncode}: {submitted.stderr}")


def _require_same(runs_dir: Path, undisturbed: Path) -> None:
    """Check that every run is done once, with the undisturbed results except for times."""
    expected = sorted(
        path.relative_to(undisturbed) for path in undisturbed.glob(f"*/*/{paths.RESULT}")
    )
    if len(expected) != len(grid.expand(grid.read(undisturbed.parent / "grid.yaml"))):
        raise GuaranteeViolated("the undisturbed sweep is incomplete")
    for path in expected:
        if _comparable_result(runs_dir / path) != _comparable_result(undisturbed / path):
            raise GuaranteeViolated(f"{path}: differs from the undisturbed sweep")
        history = path.with_name(paths.HISTORY)
        if _rows(runs_dir / history) != _rows(undisturbed / history):
            raise GuaranteeViolated(f"{history}: differs from the undisturbed sweep")
    leftovers = [path for path in runs_dir.glob("*/*/.writing-*")]
    leftovers += runs_dir.glob(f"*/*/{paths.RESUME}*")
    if leftovers:
        raise GuaranteeViolated(f"left behind: {leftovers[0]}")
    harness.table(runs_dir)


def _comparable_result(path: Path) -> dict[str, Any] | None:
    numbers = files.read_json(path)
    return numbers and {
        name: value for name, value in numbers.items() if name not in VARYING_FIELDS
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {name: value for name, value in row.items() if name not in VARYING_FIELDS} for row in rows
    ]


def logs_text(logs: Path) -> str:
    return "".join(path.read_text() for path in sorted(logs.glob("*.out")))


def queued(partition: str = "gpu") -> set[str]:
    """Return the ids of pending and running jobs; not empty if Slurm does not answer."""
    completed = _run_slurm_command("squeue", "-h", f"--partition={partition}", "-o", "%A")
    return {"unknown"} if completed.returncode else set(completed.stdout.split())


def _states_now() -> str:
    return _run_slurm_command("squeue", "-h", "--partition=gpu", "-o", "%T").stdout


def _states() -> list[str]:
    """Return the states of all attempts of all jobs in the default partition, from sacct."""
    sacct_output = slurm_output(
        "sacct", "-X", "-n", "-P", "-D", "--partition=gpu", "--format=State"
    )
    return [line.split()[0] for line in sacct_output.splitlines()]


def slurm_output(*words: str) -> str:
    """Return the output of a Slurm command, repeated for up to a minute until it succeeds."""
    deadline = time.monotonic() + 60
    while (completed := _run_slurm_command(*words)).returncode:
        if time.monotonic() > deadline:
            raise GuaranteeViolated(f"{' '.join(words)}: {completed.stderr}")
        time.sleep(1)
    return completed.stdout


def _run_slurm_command(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", "no answer")


def wait_until(condition: Callable[[], object], what: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise GuaranteeViolated(f"timed out waiting until {what}")
        time.sleep(0.5)
