"""Real jobs, submitted with the real sbatch to the rehearsal cluster."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from src.common.errors import Restart
from src.common.paths import ROOT, SETS_DIR
from src.slurm import client, requeue
from src.sweep import grid, sets
from tests.conftest import until

pytestmark = pytest.mark.slurm

GRID = """
base_dataset_path: synthetic
model_type: cifar10net
scheduler: [step, cosine]
learning_rate: [0.001, 0.0005, 0.0001]
gamma: 0.95
num_epochs: 3
batch_size: 50
max_images: 2000
"""
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
TIMES = ("train_seconds", "images_per_second", "attempt")


@pytest.fixture
def set_files(tmp_path: Path) -> Path:
    """Two sets of three runs."""
    (tmp_path / "grid.yaml").write_text(GRID)
    configs = grid.expand(grid.read(tmp_path / "grid.yaml"))
    sets.write(grid.by_set(configs), tmp_path / "sets")
    return tmp_path / "sets"


def sbatch(*words: object, folder: Path = ROOT) -> str:
    """Submit from `folder`; the job's id."""
    done = subprocess.run(
        ["sbatch", "--parsable", *map(str, words)],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip()


def states(job: str) -> list[str]:
    """The state of a job, or of each task of an array, as accounting has it."""
    words = ["sacct", "-X", "-n", "-P", "-j", job, "--format=State"]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    return [line.split()[0] for line in done.stdout.splitlines()]


def ended(job: str) -> list[str]:
    """Wait for a job's end; its states."""
    until(lambda: (now := states(job)) and all(state in ENDED for state in now))
    return states(job)


def results(runs: Path) -> dict[str, dict[str, Any]]:
    """The results under `runs` without times, by run folder."""
    found = {}
    for path in sorted(runs.glob("*/*/result.json")):
        numbers = json.loads(path.read_text())
        found[path.parent.name] = {k: v for k, v in numbers.items() if k not in TIMES}
    return found


def said(log: Path) -> str:
    return log.read_text() if log.exists() else ""


def test_a_set_requeued_half_way_loses_nothing(
    cluster: Path, set_files: Path, tmp_path: Path
) -> None:
    """From slurm_cluster/; requeued from outside, warned by USR1, preempted: as if undisturbed."""
    log, runs, calm = tmp_path / "log", tmp_path / "runs", tmp_path / "calm"
    script = ("run_cluster_sets.sh", 1, "--sets", set_files, "--runs")
    folder = ROOT / "slurm_cluster"
    job = sbatch(f"--output={log}", *script, runs, folder=folder)
    undisturbed = sbatch(f"--output={tmp_path / 'calm.log'}", *script, calm, folder=folder)

    until(lambda: len(results(runs)) >= 1)
    first = {path: path.stat().st_mtime_ns for path in runs.glob("*/*/result.json")}
    subprocess.run(["scontrol", "requeue", job], check=True)
    until(lambda: "restart 1" in said(log) and said(log).rpartition("restart 1")[2].count("epoch"))
    # what a job gets before its time limit or, with grace time, before a preemption
    subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)
    until(lambda: "restart 2" in said(log))
    assert f"job {job} is requeued" in said(log)
    assert ended(job) == ["COMPLETED"]

    text = said(log)
    assert text.count("everything is saved") == 2, text
    assert text.count("epochs, completed)") == 3, "each run ended once"
    assert {path: path.stat().st_mtime_ns for path in first} == first
    for attempts in runs.glob("*/*/attempts"):
        assert len(list(attempts.iterdir())) <= 3
    assert not list(runs.glob("*/*/resume*"))

    assert ended(undisturbed) == ["COMPLETED"]
    assert results(runs) == results(calm)
    assert len(results(calm)) == 3


def test_an_array_from_the_repository(cluster: Path, set_files: Path, tmp_path: Path) -> None:
    """The set number is the task's; a job in the urgent partition preempts one of them."""
    runs, logs = tmp_path / "runs", tmp_path / "%a.log"
    words = ("slurm_cluster/run_cluster_sets.sh", "--sets", set_files, "--runs", runs)
    job = sbatch("--array=1-2", f"--output={logs}", *words)
    until(lambda: "epoch" in said(tmp_path / "1.log") and "epoch" in said(tmp_path / "2.log"))
    urgent = [
        sbatch("--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
        for _ in range(4)
    ]
    assert sorted(ended(job)) == ["COMPLETED", "COMPLETED"]
    for one in urgent:
        assert ended(one) == ["COMPLETED"]
    assert "restart 1" in said(tmp_path / "1.log") + said(tmp_path / "2.log")
    assert len(results(runs)) == 6


def test_one_run_from_slurm_cluster(cluster: Path, tmp_path: Path) -> None:
    words = ("run_cluster.sh", 1, 64, "cifar10net", "step", "True", 0.001, 0.0001, 0.97)
    more = ("-d", "synthetic", "--max_images", 200, "--runs", tmp_path / "runs")
    folder = ROOT / "slurm_cluster"
    job = sbatch(f"--output={tmp_path / 'log'}", *words, *more, folder=folder)
    assert ended(job) == ["COMPLETED"], said(tmp_path / "log")
    [name] = results(tmp_path / "runs")
    assert name.startswith("cifar10net_aug_True_scheduler_step_lr_0.001_wd_0.0001_gamma_0.97-")


def test_a_cancelled_job_stays_cancelled(cluster: Path, set_files: Path, tmp_path: Path) -> None:
    log, runs = tmp_path / "log", tmp_path / "runs"
    words = ("slurm_cluster/run_cluster_sets.sh", 2, "--sets", set_files, "--runs", runs)
    job = sbatch(f"--output={log}", *words)
    until(lambda: "epoch" in said(log))
    subprocess.run(["scancel", job], check=True)
    assert ended(job) == ["CANCELLED"]
    until(lambda: "everything is saved" in said(log))
    time.sleep(8)  # a requeued job starts again after 5 seconds
    assert states(job) == ["CANCELLED"]
    assert "is requeued" not in said(log)


SESSION = """#!/bin/bash
#SBATCH --job-name=notebook
# somebody's session, in which our script is started by hand
{ask}
bash slurm_cluster/run_cluster_sets.sh 2 --sets {sets} --runs {runs} &
until grep -q epoch {log}; do sleep 0.2; done
kill -{signal} $!
wait $!
echo "status $?, and the session goes on"
"""


@pytest.mark.parametrize(
    ("signal", "ask", "requeued"),
    [
        ("USR1", "", False),
        ("USR1", "export REQUEUE_ON_STOP=1", True),
        ("INT", "export REQUEUE_ON_STOP=1", False),
    ],
)
def test_only_own_batch_script_requeues_the_job(
    cluster: Path, set_files: Path, tmp_path: Path, signal: str, ask: str, requeued: bool
) -> None:
    """A session that calls our script is requeued only if it asks for it, and never by Ctrl-C."""
    log, runs, script = tmp_path / "log", tmp_path / "runs", tmp_path / "session.sh"
    text = SESSION.format(ask=ask, sets=set_files, runs=runs, log=log, signal=signal)
    if signal == "INT":  # bash lets background processes ignore it; python shall not
        text = text.replace("#!/bin/bash\n", "#!/bin/bash\nset -m\n", 1)
    script.write_text(text)
    job = sbatch("--requeue", "--open-mode=append", f"--output={log}", script)
    until(lambda: "everything is saved" in said(log) or "goes on" in said(log))
    if requeued:
        until(lambda: f"job {job} is requeued" in said(log))
        subprocess.run(["scancel", job], check=True)
        return
    assert ended(job) == ["COMPLETED"], said(log)
    assert "status 3, and the session goes on" in said(log)
    assert "is requeued" not in said(log)
    assert f"requeued when stopped: {'yes' if ask else 'no'}" in said(log)


SICK = """
import os, sys
sys.path.insert(0, "{root}")
from src.cli.entry_point import run_main
from src.common.errors import ExitStatus, NodeFailure, Restart
def main(words):
    node = os.environ["SLURMD_NODENAME"]
    print("on", node, flush=True)
    if int(os.environ.get("SLURM_RESTART_COUNT", 0)) < 2:
        failure = NodeFailure("node trouble on node " + node)
        failure.restart = Restart(exclude=(node,))
        raise failure
    return ExitStatus.DONE
run_main(main)
"""


def test_a_job_does_not_come_back_to_nodes_that_failed_it(cluster: Path, tmp_path: Path) -> None:
    (tmp_path / "sick.py").write_text(SICK.format(root=ROOT))
    (tmp_path / "job.sh").write_text(f"#!/bin/bash\nexec {sys.executable} {tmp_path / 'sick.py'}\n")
    words = ("--requeue", "--open-mode=append", "--export=ALL,REQUEUE_ON_STOP=1", "--array=3")
    job = sbatch(*words, f"--output={tmp_path / 'log'}", tmp_path / "job.sh")
    assert ended(job) == ["COMPLETED"], said(tmp_path / "log")
    text = said(tmp_path / "log")
    nodes = re.findall(r"^on (\S+)$", text, re.MULTILINE)
    assert len(nodes) == len(set(nodes)) == 3, text
    assert f"job {job}_3 will not run on {nodes[0]}\n" in text
    assert f"job {job}_3 will not run on {nodes[0]},{nodes[1]}\n" in text


def test_mistakes_end_the_job_with_a_line_in_its_log(cluster: Path, tmp_path: Path) -> None:
    """The log goes where the job was submitted: there is no folder that could be missing."""
    for name in ("src", "slurm_cluster"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copytree(SETS_DIR, tmp_path / "hyperparameter_sets")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    folder = tmp_path / "slurm_cluster"
    job = sbatch("run_cluster_sets.sh", "../../etc/passwd", folder=folder)
    assert ended(job) == ["FAILED"]
    text = (folder / f"cifar10-set-{job}.out").read_text()
    assert "error: set '../../etc/passwd': expected a number, 1 to 18" in text
    assert not list(tmp_path.glob("saved_models/*"))


def test_nobody_is_requeued_where_slurm_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No answer is not a no: it asks again, until it can no longer."""
    asked = tmp_path / "asked"
    for name, body in {
        "squeue": f"echo x >>{asked}; [ $(wc -l <{asked}) -lt 3 ] && exit 1; echo RUNNING",
        "scontrol": f"echo $* >{tmp_path / 'requeued'}",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(requeue, "_PAUSE_SECONDS", 0.01)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    requeue.requeue_this_job(Restart())
    assert not asked.exists(), "not a job"
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    requeue.requeue_this_job(Restart())
    assert (tmp_path / "requeued").read_text() == "requeue 12\n"
    assert "job 12 is requeued" in capfd.readouterr().err
    (tmp_path / "squeue").write_text("#!/bin/bash\nexit 1\n")
    monkeypatch.setattr(requeue, "_PATIENCE_SECONDS", 0.2)
    requeue.requeue_this_job(Restart())
    assert "could not be requeued" in capfd.readouterr().err


def test_an_array_task_names_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("JOB_ID", "12"), ("ARRAY_JOB_ID", "12"), ("ARRAY_TASK_ID", "3")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert client.this_job() == "12_3"


def test_two_clusters_stand_side_by_side(cluster: Path, tmp_path: Path) -> None:
    scripts, other = ROOT / "slurm_cluster" / "rehearsal", Path(f"{cluster}-b")
    try:
        subprocess.run([scripts / "up.sh", other, "1"], check=True, timeout=120)
        again = subprocess.run([scripts / "up.sh", other], capture_output=True, text=True)
        assert again.returncode == 2
        assert "is up already" in again.stderr
        for folder, nodes in ((cluster, 4), (other, 1)):
            environment = {**os.environ, "SLURM_CONF": str(folder / "conf" / "slurm.conf")}
            words = ["sinfo", "-h", "-p", "gpu", "-o", "%D"]
            shown = subprocess.run(
                words, env=environment, check=True, capture_output=True, text=True
            )
            assert int(shown.stdout) == nodes
    finally:
        subprocess.run([scripts / "down.sh", other], check=True, timeout=120)
    shutil.rmtree(other)
    assert subprocess.run(["sinfo"], capture_output=True, timeout=60).returncode == 0
