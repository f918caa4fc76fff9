"""A sweep on the rehearsal cluster whose workers are preempted and whose daemons are killed."""

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
from tests.chaos import world
from tests.chaos.monkeys import Figures
from tests.chaos.world import Broken

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
# of a result: what differs however a run was trained, or if somebody commits meanwhile
TIMED = ("train_seconds", "images_per_second", "attempt", "seconds", "git_commit")
_WORKERS = 4
_PATIENCE_SECONDS = 900.0
_DOWN_SECONDS = 12.0  # of a slurmd, or of slurmctld
_STEADY = ("COMPLETED", "PREEMPTED", "REQUEUED", "NODE_FAIL", "RUNNING", "PENDING")

Disturb = Callable[[Path, Path], int]
"""Done to the cluster in a folder and the sweep with logs in another: how often so far."""


@contextmanager
def cluster(folder: Path, grace: int) -> Iterator[Path]:
    """A rehearsal cluster in a folder of its own; SLURM_CONF points to it."""
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


def disturbed(folder: Path, place: Path, *, disturb: Disturb, times: int) -> Figures:
    """Submit sweeps and disturb them until it was done so many times; all must end undisturbed.

    place: of the cluster, which has to be a short path.
    """
    runs, epochs = (4, 4) if times < 4 else (8, 12)
    rates = ", ".join(f"0.00{number}" for number in range(1, runs + 1))
    (folder / "grid.yaml").write_text(GRID.format(rates=rates, epochs=epochs))
    calm = folder / "calm"
    _submit(folder, calm, "--executor", "inline")
    done = sweeps = 0
    while done < times:
        sweeps += 1
        runs_dir = folder / f"disturbed-{sweeps}"
        _submit(folder, runs_dir, "--workers", _WORKERS, "--cpus", 4, "--time", 30)
        logs = runs_dir / "submissions" / "1" / "logs"
        until(lambda logs=logs: "epoch" in said(logs), "a worker trains")  # type: ignore[misc]
        before = done
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while queued():
            if done < times:
                done = before + disturb(place, logs)
            _released()
            if time.monotonic() > give_up:
                raise Broken(f"unfinished after {_PATIENCE_SECONDS:g} s:\n{said(logs)[-3000:]}")
            time.sleep(0.5)
        _require_same(runs_dir, calm)
        if done == before:
            raise Broken("the sweep ended undisturbed: this has shown nothing")
    failed = [state for state in _states() if state not in _STEADY]
    if failed:
        raise Broken(f"jobs that ended as {failed}")
    return {"sweeps": sweeps, "disturbances": done, "jobs failed": 0}


def _released() -> None:
    """What an administrator does after slurmctld has forgotten which jobs it had started.

    It takes the processes that it finds on the nodes for doubles, drains those and holds its jobs.
    """
    doubles = _asked("sinfo", "-h", "-N", "-p", "gpu", "-o", "%N %E").stdout
    for node in re.findall(r"(\S+) Duplicate jobid", doubles):
        _asked("scontrol", "update", f"NodeName={node}", "State=RESUME")
    held = _asked("squeue", "-h", "--array", "-t", "PENDING", "-o", "%i %r").stdout
    for job in re.findall(r"(\S+) launch failed requeued held", held):
        _asked("scontrol", "release", job)


def preempt(place: Path, logs: Path) -> int:
    """Let urgent jobs take all nodes for a moment; how often workers were restarted until now."""
    urgent = ["sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null"]
    jobs = [answer(*urgent, "--wrap=sleep 1").strip() for _ in range(_WORKERS)]
    until(lambda: not set(jobs) & queued("urgent"), "urgent jobs are through")
    until(lambda: "RUNNING" in _states_now() or not queued(), "workers are back")
    time.sleep(6)  # so that they train
    return restarts(logs)


def kill_slurmd(place: Path, logs: Path) -> int:
    """Kill the slurmd of a node on which a worker is, and start it again; how often, until now."""
    nodes = answer("squeue", "-h", "-t", "RUNNING", "-o", "%N").split()
    if nodes:
        _restarted(place, f"slurmd-{nodes[0]}")
    return _counted(logs, bool(nodes))


def kill_slurmctld(place: Path, logs: Path) -> int:
    """Kill slurmctld and start it again; how often, until now."""
    _restarted(place, "slurmctld")
    return _counted(logs, 1)


def requeue(place: Path, logs: Path) -> int:
    """Requeue a worker from outside; how often workers were restarted until now."""
    running = answer("squeue", "-h", "--array", "-t", "RUNNING", "-o", "%i").split()
    if running:
        subprocess.run(["scontrol", "requeue", running[0]], capture_output=True, timeout=60)
        time.sleep(8)
    return restarts(logs)


def in_turn(*ways: Disturb) -> Disturb:
    """One way after the other, and again; how often, until now."""

    def disturb(place: Path, logs: Path) -> int:
        ways[_counted(logs, 0, "turns") % len(ways)](place, logs)
        return _counted(logs, 1, "turns")

    return disturb


def restarts(logs: Path) -> int:
    """How often the workers that write to `logs` were started again."""
    return sum(int(number) > 0 for number in re.findall(r"\(restart (\d+)\)", said(logs)))


def _counted(logs: Path, more: int, name: str = "kills") -> int:
    """How often the sweep with these logs was disturbed in a way, now `more` times more."""
    marker = logs.with_name(name)
    count = more + (int(marker.read_text()) if marker.exists() else 0)
    marker.write_text(str(count))
    return count


def _restarted(place: Path, name: str) -> None:
    """Kill a daemon of the cluster, and start it again after a while."""
    pids = place / "run" / "pids"
    lines = [line.split() for line in pids.read_text().splitlines()]
    pid = next(int(pid) for daemon, pid in reversed(lines) if daemon == name)
    process = psutil.Process(pid)
    words = [word for word in process.cmdline() if word != "-c"]  # which forgets all jobs
    process.kill()
    time.sleep(_DOWN_SECONDS)
    with (place / "log" / f"{name}.log").open("ab") as log:
        again = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    with pids.open("a") as file:
        file.write(f"{name} {again.pid}\n")
    until(lambda: _asked("sinfo").returncode == 0, "slurmctld answers")


def _submit(folder: Path, runs_dir: Path, *words: object) -> None:
    command = ("python", "-m", "src.sweep", "submit", "--grid", folder / "grid.yaml")
    done = subprocess.run(
        [str(word) for word in (*command, "--runs", runs_dir, *words)],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise Broken(f"submit ended with {done.returncode}: {done.stderr}")


def _require_same(runs_dir: Path, calm: Path) -> None:
    """Every run is done once, and is as in the undisturbed sweep, but for times."""
    wanted = sorted(path.relative_to(calm) for path in calm.glob(f"*/*/{paths.RESULT}"))
    if len(wanted) != len(grid.expand(grid.read(calm.parent / "grid.yaml"))):
        raise Broken("the undisturbed sweep is not whole")
    for path in wanted:
        if _untimed(runs_dir / path) != _untimed(calm / path):
            raise Broken(f"{path}: not that of the undisturbed sweep")
        history = path.with_name(paths.HISTORY)
        if _rows(runs_dir / history) != _rows(calm / history):
            raise Broken(f"{history}: not that of the undisturbed sweep")
    left = [path for path in runs_dir.glob("*/*/.writing-*")]
    left += runs_dir.glob(f"*/*/{paths.RESUME}*")
    if left:
        raise Broken(f"left behind: {left[0]}")
    world.table(runs_dir)


def _untimed(path: Path) -> dict[str, Any] | None:
    numbers = files.read_json(path)
    return numbers and {name: value for name, value in numbers.items() if name not in TIMED}


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMED} for row in rows]


def said(logs: Path) -> str:
    return "".join(path.read_text() for path in sorted(logs.glob("*.out")))


def queued(partition: str = "gpu") -> set[str]:
    """Ids of the jobs that wait or run; something also where Slurm does not answer."""
    asked = _asked("squeue", "-h", f"--partition={partition}", "-o", "%A")
    return {"unknown"} if asked.returncode else set(asked.stdout.split())


def _states_now() -> str:
    return _asked("squeue", "-h", "--partition=gpu", "-o", "%T").stdout


def _states() -> list[str]:
    """The states that all attempts of all jobs in the default partition ended in."""
    told = answer("sacct", "-X", "-n", "-P", "-D", "--partition=gpu", "--format=State")
    return [line.split()[0] for line in told.splitlines()]


def answer(*words: str) -> str:
    """What a command of Slurm says, sooner or later."""
    give_up = time.monotonic() + 60
    while (asked := _asked(*words)).returncode:
        if time.monotonic() > give_up:
            raise Broken(f"{' '.join(words)}: {asked.stderr}")
        time.sleep(1)
    return asked.stdout


def _asked(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", "no answer")


def until(condition: Callable[[], object], what: str, seconds: float = 180) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise Broken(f"waited too long until {what}")
        time.sleep(0.5)
