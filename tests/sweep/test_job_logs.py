"""Which log file `logs` shows of a run's job."""

from dataclasses import replace
from pathlib import Path

import pytest

from src.common.paths import shown
from src.config import RunConfig
from src.runs.run_folder import RunFolder
from src.sweep.commands import logs, sync
from tests.sweep.folders import attempt, write


@pytest.fixture
def run(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Return a run in an empty folder of runs, where no Slurm answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = RunFolder.of(replace(config, seed=3), tmp_path / "runs")
    folder.register(config)
    return folder


def put_log(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"{text}\n")


def test_log_of_an_array_task_of_submit_is_shown(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name has the job and task of the array, and not the task's own SLURM_JOB_ID."""
    jobs = {"slurm_job": "12_3", "slurm_job_id": "15"}
    write(run.path / "attempts" / "1.json", {**attempt(60, "done"), **jobs})
    put_log(tmp_path / "runs" / "submissions" / "2" / "logs", "cnn-12_3.out", "of this task")
    put_log(tmp_path / "runs" / "submissions" / "2" / "logs", "cnn-12_4.out", "of another task")
    logs.main([str(run.path), "--runs", str(tmp_path / "runs")])
    shown = capsys.readouterr().out
    assert "of this task" in shown
    assert "of another task" not in shown


def test_log_of_a_job_script_is_shown(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = {"slurm_job": "12_3", "slurm_job_id": "15"}
    write(run.path / "attempts" / "1.json", {**attempt(60, "done"), **jobs})
    put_log(tmp_path, "run-15.out", "of the job script")
    logs.main([str(run.path), "--runs", str(tmp_path / "runs")])
    assert "of the job script" in capsys.readouterr().out


@pytest.mark.parametrize("damage", [b'{"epoch": 1', b"null\n", b"\xff"])
def test_damaged_history_is_named_once(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: bytes
) -> None:
    """Also by --follow, which reads it every second."""
    history = run.path / "history.jsonl"
    history.write_bytes(damage)
    more = logs._new_epochs(run, 0)
    for _ in range(3):
        assert more() == ""
    assert logs.main([str(run.path), "--runs", str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().err.count("history.jsonl: damaged; its epochs are not shown") == 1


@pytest.mark.parametrize("damage", [b'{"epoch": 1', b"null\n"])
def test_sync_sends_no_run_with_a_damaged_history_and_says_so_once(
    run: RunFolder, capsys: pytest.CaptureFixture[str], damage: bytes
) -> None:
    (run.path / "history.jsonl").write_bytes(damage)
    assert not sync._send(run, "sweep")
    assert capsys.readouterr().err == (
        f"{shown(run.path)}/history.jsonl: damaged; the run is not sent\n"
    )
