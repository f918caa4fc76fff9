"""Job scripts submitted with sbatch to the rehearsal cluster: requeues, preemption, cancelling."""

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

from src.common.errors import NodeFailure, Restart
from src.common.paths import ROOT, SETS_DIR
from src.faults.job_restarts import plan_restart
from src.faults.node_health import reporting_unusable_process
from src.slurm import client, requeue
from src.sweep import grid, sets
from src.sweep.commands import retry
from tests.conftest import wait_until

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
END_STATES = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
TIMES = ("train_seconds", "images_per_second", "attempt")


@pytest.fixture
def set_files(tmp_path: Path) -> Path:
    """Write two set files of three runs each."""
    (tmp_path / "grid.yaml").write_text(GRID)
    configs = grid.expand(grid.read(tmp_path / "grid.yaml"))
    sets.write(grid.split_into_sets(configs), tmp_path / "sets")
    return tmp_path / "sets"


def sbatch(*arguments: object, folder: Path = ROOT) -> str:
    """Submit a job from `folder` and return its id."""
    completed = subprocess.run(
        ["sbatch", "--parsable", *map(str, arguments)],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return completed.stdout.strip()


def states(job: str) -> list[str]:
    """Return the state of a job, or of each array task, from sacct."""
    arguments = ["sacct", "-X", "-n", "-P", "-j", job, "--format=State"]
    completed = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60)
    return [line.split()[0] for line in completed.stdout.splitlines()]


def wait_for_end(job: str) -> list[str]:
    """Wait until a job has ended, and return its states."""
    wait_until(lambda: (now := states(job)) and all(state in END_STATES for state in now))
    return states(job)


def results(runs: Path) -> dict[str, dict[str, Any]]:
    """Return the results under `runs` by run folder, without timing fields."""
    found = {}
    for path in sorted(runs.glob("*/*/result.json")):
        numbers = json.loads(path.read_text())
        found[path.parent.name] = {k: v for k, v in numbers.items() if k not in TIMES}
    return found


def log_text(log: Path) -> str:
    return log.read_text() if log.exists() else ""


def test_requeued_set_job_gives_same_results(
    cluster: Path, set_files: Path, tmp_path: Path
) -> None:
    """A job requeued by scontrol, then stopped by USR1, gives the results of an undisturbed one."""
    log, runs, undisturbed_runs = tmp_path / "log", tmp_path / "runs", tmp_path / "calm"
    script = ("run_cluster_sets.sh", 1, "--sets", set_files, "--runs")
    folder = ROOT / "slurm_cluster"
    job = sbatch(f"--output={log}", *script, runs, folder=folder)
    undisturbed_job = sbatch(
        f"--output={tmp_path / 'undisturbed_runs.log'}", *script, undisturbed_runs, folder=folder
    )

    wait_until(lambda: len(results(runs)) >= 1)
    first = {path: path.stat().st_mtime_ns for path in runs.glob("*/*/result.json")}
    subprocess.run(["scontrol", "requeue", job], check=True)
    wait_until(
        lambda: (
            "restart 1" in log_text(log) and log_text(log).rpartition("restart 1")[2].count("epoch")
        )
    )
    # the signal sent before the time limit or, with grace time, before preemption
    subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)
    wait_until(lambda: "restart 2" in log_text(log))
    assert f"job {job} is requeued" in log_text(log)
    assert wait_for_end(job) == ["COMPLETED"]

    text = log_text(log)
    assert text.count("everything is saved") == 2, text
    assert text.count("epochs, completed)") == 3, "each run must finish once"
    assert {path: path.stat().st_mtime_ns for path in first} == first
    for attempts in runs.glob("*/*/attempts"):
        assert len(list(attempts.iterdir())) <= 3
    assert not list(runs.glob("*/*/resume*"))

    assert wait_for_end(undisturbed_job) == ["COMPLETED"]
    assert results(runs) == results(undisturbed_runs)
    assert len(results(undisturbed_runs)) == 3


def test_preempted_array_job_completes(cluster: Path, set_files: Path, tmp_path: Path) -> None:
    """The array index selects the set; jobs in the urgent partition preempt the array."""
    runs, logs = tmp_path / "runs", tmp_path / "%a.log"
    arguments = ("slurm_cluster/run_cluster_sets.sh", "--sets", set_files, "--runs", runs)
    job = sbatch("--array=1-2", f"--output={logs}", *arguments)
    wait_until(
        lambda: "epoch" in log_text(tmp_path / "1.log") and "epoch" in log_text(tmp_path / "2.log")
    )
    urgent = [
        sbatch("--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
        for _ in range(4)
    ]
    assert sorted(wait_for_end(job)) == ["COMPLETED", "COMPLETED"]
    for one in urgent:
        assert wait_for_end(one) == ["COMPLETED"]
    assert "restart 1" in log_text(tmp_path / "1.log") + log_text(tmp_path / "2.log")
    assert len(results(runs)) == 6


def test_run_cluster_script_trains_one_run(cluster: Path, tmp_path: Path) -> None:
    arguments = ("run_cluster.sh", 1, 64, "cifar10net", "step", "True", 0.001, 0.0001, 0.97)
    more = ("-d", "synthetic", "--max_images", 200, "--runs", tmp_path / "runs")
    folder = ROOT / "slurm_cluster"
    job = sbatch(f"--output={tmp_path / 'log'}", *arguments, *more, folder=folder)
    assert wait_for_end(job) == ["COMPLETED"], log_text(tmp_path / "log")
    [name] = results(tmp_path / "runs")
    assert name.startswith("cifar10net_aug_True_scheduler_step_lr_0.001_wd_0.0001_gamma_0.97-")


def test_cancelled_job_is_not_requeued(cluster: Path, set_files: Path, tmp_path: Path) -> None:
    log, runs = tmp_path / "log", tmp_path / "runs"
    arguments = ("slurm_cluster/run_cluster_sets.sh", 2, "--sets", set_files, "--runs", runs)
    job = sbatch(f"--output={log}", *arguments)
    wait_until(lambda: "epoch" in log_text(log))
    subprocess.run(["scancel", job], check=True)
    assert wait_for_end(job) == ["CANCELLED"]
    wait_until(lambda: "everything is saved" in log_text(log))
    time.sleep(8)  # a requeued job starts again after 5 seconds
    assert states(job) == ["CANCELLED"]
    assert "is requeued" not in log_text(log)


def test_waiting_job_may_use_node_again_after_retry(
    cluster: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    node = (client.output_of("sinfo", "--noheader", "--Node", "--format=%N") or "").split()[0]
    job = sbatch("--hold", f"--exclude={node}", "--output=/dev/null", "--wrap=true")
    try:
        for name, value in (("SLURMD_NODENAME", node), ("SLURM_JOB_ID", job)):
            monkeypatch.setenv(name, value)
        for _ in range(2):
            with pytest.raises(NodeFailure), reporting_unusable_process(tmp_path):
                raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
        assert plan_restart(tmp_path, progressed=True).exclude == (node,)
        monkeypatch.delenv("SLURM_JOB_ID")
        retry.main(["--all", "--dry-run", "--runs", str(tmp_path)])
        assert f"ExcNodeList={node}" in (client.output_of("scontrol", "show", "job", job) or "")
        retry.main(["--all", "--runs", str(tmp_path)])
        assert f"job {job}, which is waiting, may use it again too" in capsys.readouterr().out
        assert "ExcNodeList=(null)" in (client.output_of("scontrol", "show", "job", job) or "")
    finally:  # later tests wait for an empty queue
        subprocess.run(["scancel", job], check=True)


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
    wait_until(lambda: "everything is saved" in log_text(log) or "goes on" in log_text(log))
    if requeued:
        # Slurm kills the session's other processes once its script has ended, at times before ours
        # has told that it has requeued the job
        signs = (f"job {job} is requeued", f"job {job} (restart 1,")
        wait_until(lambda: any(sign in log_text(log) for sign in signs))
        subprocess.run(["scancel", job], check=True)
        return
    assert wait_for_end(job) == ["COMPLETED"], log_text(log)
    assert "status 3, and the session goes on" in log_text(log)
    assert "is requeued" not in log_text(log)
    assert f"requeued when stopped: {'yes' if ask else 'no'}" in log_text(log)


FAILING_NODE_SCRIPT = """
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


def test_requeued_job_avoids_failed_nodes(cluster: Path, tmp_path: Path) -> None:
    (tmp_path / "sick.py").write_text(FAILING_NODE_SCRIPT.format(root=ROOT))
    (tmp_path / "job.sh").write_text(f"#!/bin/bash\nexec {sys.executable} {tmp_path / 'sick.py'}\n")
    arguments = ("--requeue", "--open-mode=append", "--export=ALL,REQUEUE_ON_STOP=1", "--array=3")
    job = sbatch(*arguments, f"--output={tmp_path / 'log'}", tmp_path / "job.sh")
    assert wait_for_end(job) == ["COMPLETED"], log_text(tmp_path / "log")
    text = log_text(tmp_path / "log")
    nodes = re.findall(r"^on (\S+)$", text, re.MULTILINE)
    assert len(nodes) == len(set(nodes)) == 3, text
    assert f"job {job}_3 will not run on {nodes[0]}\n" in text
    assert f"job {job}_3 will not run on {nodes[0]},{nodes[1]}\n" in text


def test_invalid_set_number_fails_job_with_error_in_log(cluster: Path, tmp_path: Path) -> None:
    """The log is written to the submit directory, so no folder has to exist beforehand."""
    for name in ("src", "slurm_cluster"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copytree(SETS_DIR, tmp_path / "hyperparameter_sets")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    folder = tmp_path / "slurm_cluster"
    job = sbatch("run_cluster_sets.sh", "../../etc/passwd", folder=folder)
    assert wait_for_end(job) == ["FAILED"]
    text = (folder / f"cifar10-set-{job}.out").read_text()
    assert "error: set '../../etc/passwd': expected a number, 1 to 18" in text
    assert not list(tmp_path.glob("saved_models/*"))


def test_requeue_is_retried_until_slurm_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """requeue_this_job repeats unanswered squeue calls until its time limit."""
    call_log = tmp_path / "asked"
    for name, body in {
        "squeue": f"echo x >>{call_log}; [ $(wc -l <{call_log}) -lt 3 ] && exit 1; echo RUNNING",
        "scontrol": f"echo $* >{tmp_path / 'requeued'}",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(requeue, "_PAUSE_SECONDS", 0.01)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    requeue.requeue_this_job(Restart())
    assert not call_log.exists(), "squeue must not be called outside of a job"
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    requeue.requeue_this_job(Restart())
    assert (tmp_path / "requeued").read_text() == "requeue 12\n"
    assert "job 12 is requeued" in capfd.readouterr().err
    (tmp_path / "squeue").write_text("#!/bin/bash\nexit 1\n")
    monkeypatch.setattr(requeue, "_PATIENCE_SECONDS", 0.2)
    requeue.requeue_this_job(Restart())
    assert "could not be requeued" in capfd.readouterr().err


def test_this_job_of_array_task_is_array_and_index(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("JOB_ID", "12"), ("ARRAY_JOB_ID", "12"), ("ARRAY_TASK_ID", "3")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert client.this_job() == "12_3"


def test_two_rehearsal_clusters_run_side_by_side(cluster: Path, tmp_path: Path) -> None:
    scripts, other = ROOT / "slurm_cluster" / "rehearsal", Path(f"{cluster}-b")
    try:
        subprocess.run([scripts / "up.sh", other, "1"], check=True, timeout=120)
        again = subprocess.run([scripts / "up.sh", other], capture_output=True, text=True)
        assert again.returncode == 2
        assert "is up already" in again.stderr
        for folder, nodes in ((cluster, 4), (other, 1)):
            environment = {**os.environ, "SLURM_CONF": str(folder / "conf" / "slurm.conf")}
            arguments = ["sinfo", "-h", "-p", "gpu", "-o", "%D"]
            sinfo = subprocess.run(
                arguments, env=environment, check=True, capture_output=True, text=True
            )
            assert int(sinfo.stdout) == nodes
    finally:
        subprocess.run([scripts / "down.sh", other], check=True, timeout=120)
    shutil.rmtree(other)
    assert subprocess.run(["sinfo"], capture_output=True, timeout=60).returncode == 0
