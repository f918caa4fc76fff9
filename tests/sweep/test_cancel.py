"""The command `cancel`: which jobs and processes it stops."""

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.common import processes
from src.common.paths import ROOT
from src.config import RunConfig
from src.runs.snapshot import Snapshot
from src.slurm.job_queue import JOB_NAME, Job, JobState
from src.sweep.__main__ import main
from src.sweep.commands.cancel import Plan, decide
from tests.sweep.folders import attempt, put

CONFIG = RunConfig(model_type="tinyvgg", num_epochs=2)


def job(
    number: str, state: JobState = JobState.ACTIVE, folder: Path = ROOT, name: str = JOB_NAME
) -> Job:
    return Job(
        id=number,
        raw_id=number,
        state=state,
        restarts=0,
        reason="",
        node="n1",
        seconds_left=None,
        work_dir=str(folder),
        name=name,
    )


@pytest.fixture(autouse=True)
def this_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "this")


def trained_by(runs: Path, seed: int, **record: Any) -> Snapshot:
    """A run in its first attempt, by the process or job in `record`."""
    return Snapshot(put(runs, replace(CONFIG, seed=seed), tries=[attempt(60, **record)]))


def test_job_that_trains_a_selected_run_is_cancelled_with_its_other_runs(tmp_path: Path) -> None:
    runs = [trained_by(tmp_path, seed, slurm_job_id="12", slurm_cluster="this") for seed in (0, 1)]
    other = trained_by(tmp_path, 2, slurm_job_id="13", slurm_cluster="this")
    queued = {"12": job("12"), "13": job("13")}
    plan = decide([*runs, other], {runs[0].path}, queued)
    assert plan == Plan({"12": [run.path.name for run in runs]}, {}, [])


def test_job_of_another_cluster_with_the_same_id_is_left_alone(tmp_path: Path) -> None:
    run = trained_by(tmp_path, 0, slurm_job_id="12", slurm_cluster="other")
    plan = decide([run], {run.path}, {"12": job("12")})
    assert (plan.jobs, plan.processes) == ({}, {})
    [line] = plan.unreachable
    assert "job 12 of the cluster other may work on it: cancel it there" in line


def test_job_that_no_job_script_started_is_not_cancelled(tmp_path: Path) -> None:
    """Somebody runs `work` in a notebook's job: scancel would end the notebook."""
    run = trained_by(tmp_path, 0, slurm_job_id="12", slurm_cluster="this")
    plan = decide([run], {run.path}, {"12": job("12", name="jupyter")})
    assert (plan.jobs, plan.processes) == ({}, {})
    [line] = plan.unreachable
    assert "process 1 on n1 may work on it, in job 12 (jupyter), which the job scripts" in line
    assert "stop the process by hand" in line


def test_worker_of_such_a_job_on_this_machine_is_stopped_alone(tmp_path: Path) -> None:
    record = {"slurm_job_id": "12", "slurm_cluster": "this", "process": processes.identity()}
    run = trained_by(tmp_path, 0, **record)
    queued = {"12": job("12", name="jupyter")}
    assert decide([run], {run.path}, queued, every_job=True) == Plan(
        {}, {os.getpid(): [run.path.name]}, []
    )
    plan = decide([run], {run.path}, {"12": job("12", JobState.ENDED, name="jupyter")})
    assert plan.processes == {}


@pytest.mark.parametrize(
    ("record", "queued", "reason"),
    [
        ({"slurm_job_id": "12", "slurm_cluster": "this"}, {}, "job 12 is not in your queue"),
        ({"slurm_job_id": "12", "slurm_cluster": "this"}, None, "Slurm is absent or does not"),
        ({}, {}, "process 1 on n1 may work on it: stop it there"),
    ],
)
def test_worker_out_of_reach_is_named(
    tmp_path: Path, record: dict[str, str], queued: dict[str, Job] | None, reason: str
) -> None:
    run = trained_by(tmp_path, 0, **record)
    plan = decide([run], {run.path}, queued)
    assert (plan.jobs, plan.processes) == ({}, {})
    assert reason in plan.unreachable[0]


def test_all_cancels_every_job_of_this_repository(tmp_path: Path) -> None:
    queued = {
        "12": job("12", JobState.PENDING),
        "13": job("13", JobState.ENDED),
        "14": job("14", folder=tmp_path),
    }
    assert decide([], (), queued, every_job=True) == Plan({"12": []}, {}, [])


def refuse(pid: int, number: int) -> None:
    raise PermissionError


def test_process_of_this_machine_gets_sigterm_unless_it_is_a_dry_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = subprocess.Popen(["sleep", "600"])
    try:
        record = processes.identity(worker.pid)
        run = trained_by(tmp_path, 0, process=record, host=os.uname().nodename)
        words = ["cancel", run.path.name.rpartition("-")[2], "--runs", str(tmp_path)]
        assert main([*words, "--dry-run"]) == 0
        said = f"process {worker.pid}, which works on {run.path.name}\n"
        assert capsys.readouterr().out == f"would stop {said}"
        assert worker.poll() is None
        with monkeypatch.context() as patch:
            patch.setattr("os.kill", refuse)
            assert main(words) == 1
        expected = f"process {worker.pid} is somebody else's: it goes on\n"
        assert capsys.readouterr().err == expected
        assert main(words) == 0
        assert capsys.readouterr().out == f"stopping {said}"
        assert worker.wait(60) == -signal.SIGTERM
    finally:
        worker.kill()
