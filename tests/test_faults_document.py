"""Faults that no other test injects, and a check of the test names in docs/faults.md."""

import errno
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from src.common import files
from src.common.paths import ROOT
from src.config import RunConfig
from src.run import run
from src.runs import aggregate, leases
from src.runs.run_folder import RunFolder, State
from src.slurm import job_poller, submission
from src.sweep import sets
from src.sweep.commands import submit
from src.sweep.launch import sbatch
from src.sweep.launch.submit_options import parse
from tests.conftest import FakeSqueue
from tests.slurm.squeue import line

TABLE = (ROOT / "docs" / "faults.md").read_text()
ROWS = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", TABLE, re.MULTILINE)


def test_faults_table_cites_existing_tests() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) >= 35
    for _, fault, _, where in ROWS:
        named = re.findall(r"`(tests/[^`]+\.py)::(test_\w+)", where)
        assert named, fault
        for path, name in named:
            assert f"def {name}(" in (ROOT / path).read_text(), f"{fault}: {path}::{name}"


@pytest.fixture
def folder(config: RunConfig, tmp_path: Path) -> RunFolder:
    run_folder = RunFolder.of(config, tmp_path)
    run_folder.register(config)
    return run_folder


@pytest.mark.parametrize("error_number", [errno.EDQUOT, errno.EROFS])
def test_run_resumes_after_quota_or_read_only_error(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_number: int
) -> None:
    """Over quota or read-only: the run is interrupted, and finishes once writes work again."""
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise OSError(error_number, "refused")

        patch.setattr(RunFolder, "write_predictions", lambda self, **_: refuse())
        with pytest.raises(OSError, match="refused"):
            run([config], runs_dir=tmp_path)
    stopped = RunFolder.of(config, tmp_path)
    assert stopped.state() == State.INTERRUPTED
    assert not list(tmp_path.rglob(".writing-*"))
    [outcome] = run([config], runs_dir=tmp_path)
    assert outcome.state == State.DONE


@pytest.mark.parametrize("hours", [-1, 1])
def test_lease_of_live_process_survives_clock_skew(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, hours: int, squeue: FakeSqueue
) -> None:
    """Liveness depends on the Slurm job and the heartbeat counter, not on timestamps."""
    squeue(f"echo '{line('7')}'")
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "one")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    lease = leases.acquire(folder.path)
    assert lease
    monkeypatch.delenv("SLURM_JOB_ID")
    lease.record["process"] = {**lease.record["process"], "machine": "another"}
    started = datetime.now(UTC) + timedelta(hours=hours)
    lease.record["started"] = started.isoformat(timespec="seconds")
    files.write_json(folder.path / "attempts" / "1.json", lease.record)
    assert leases.acquire(folder.path) is None
    assert leases.wait_for_stalled([folder.path], lambda: False) == {}, "its heartbeat advances"
    lease._over.set()
    lease._thread.join()
    assert list(leases.wait_for_stalled([folder.path], lambda: False)) == [folder.path]
    squeue("true")
    monkeypatch.setattr(job_poller, "shared", job_poller.JobPoller())
    second_lease = leases.acquire(folder.path)
    assert second_lease, "its Slurm job is gone"
    second_lease.end("stopped")


def test_stale_listing_does_not_allow_second_lease(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client whose listing lacks the newest attempt cannot create the same attempt."""
    first_lease = leases.acquire(folder.path)
    assert first_lease
    with monkeypatch.context() as patch:
        patch.setattr(leases, "latest", lambda folder: None)
        assert leases.acquire(folder.path) is None
    first_lease.ensure_held()
    first_lease.end("stopped")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE])
def test_file_removed_by_new_owner_means_lost_lease(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The machine was cut off before a rename: the run and the node are not at fault."""
    folder, replace = RunFolder.of(config, tmp_path), os.replace

    def cut_off(source: str, target: Path) -> None:
        if Path(target).parent == folder.path and (folder.path / "attempts" / "1.json").exists():
            monkeypatch.undo()
            os.unlink(source)
            files.write_once(folder.path / "attempts" / "2.json", b'{"attempt": 2}')
            folder.write_history([{"epoch": 1}, {"epoch": 2}])
            raise OSError(number, os.strerror(number))
        replace(source, target)

    monkeypatch.setattr(os, "replace", cut_off)
    [outcome] = run([config], runs_dir=tmp_path)
    assert (outcome.result, outcome.failure) == (None, None)
    assert folder.history() == [{"epoch": 1}, {"epoch": 2}]
    ended = (files.read_json(folder.path / "attempts" / "1.json") or {})["ended"]
    assert ended == "superseded"


def _aggregate(runs_dir: Path, path: Path) -> None:
    for _ in range(10):
        aggregate.write_csv(aggregate.collect(runs_dir).table, path)


def test_concurrent_aggregators_keep_table_complete(config: RunConfig, tmp_path: Path) -> None:
    """The table is complete at every moment, whichever process writes last."""
    run([config, replace(config, seed=7)], runs_dir=tmp_path / "runs")
    path = tmp_path / "table.csv"
    _aggregate(tmp_path / "runs", path)
    complete = path.read_bytes()
    context = multiprocessing.get_context("forkserver")
    processes = [
        context.Process(target=_aggregate, args=(tmp_path / "runs", path)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        assert path.read_bytes() == complete
        time.sleep(0.005)
    assert [process.exitcode for process in processes] == [0, 0]
    assert {p.name for p in tmp_path.iterdir()} == {"runs", "table.csv"}


def test_submission_ignores_later_edits_of_set_file(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers read the copy of the set files that was made at submission."""
    monkeypatch.setattr(submission, "submit", lambda path: "77")
    monkeypatch.setattr(submission, "max_array_size", lambda: 100)
    monkeypatch.setattr(submission, "max_submit_jobs", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/bin/{name}")
    [path] = sets.write([[config]], tmp_path / "sets")
    arguments = ["--sets", str(path.parent), "--runs", str(tmp_path / "runs")]
    assert submit.main(arguments) == 0
    path.write_text("not a run\n")
    folder = tmp_path / "runs" / "submissions" / "1"
    assert sets.read_numbered(folder / "sets", []) == {"1": [config]}


def test_job_script_runs_code_copied_at_submission(tmp_path: Path) -> None:
    """The job script runs the code copied at submission, whatever its working directory."""
    folder = tmp_path / "1"
    (folder / "code" / "src").mkdir(parents=True)
    (folder / "code" / "src" / "__init__.py").write_text("VERSION = 'as submitted'\n")
    resources = parse([]).resources
    text = sbatch.script(sbatch.JobArray("cnn", 1, 1), resources, folder, ROOT, ["src.sweep"])
    command = f"exec {sys.executable} -u -m src.sweep"
    assert command in text
    code = "import src; print(src.VERSION)"
    (tmp_path / "script.sh").write_text(text.replace(command, f'exec {sys.executable} -c "{code}"'))
    done = subprocess.run(
        ["bash", tmp_path / "script.sh"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "as submitted\n"
