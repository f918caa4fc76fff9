"""Attempts of other machines, whose jobs Slurm is asked about."""

import time
from pathlib import Path

import pytest

from src.common import files
from src.common.errors import LeaseLost
from src.config import RunConfig
from src.runs import leases
from src.runs.history import HistoryFile
from src.runs.run_folder import RunFolder
from src.slurm import client, job_poller
from tests.conftest import Fake
from tests.slurm.squeue import line

NAMES = ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "RESTART_COUNT", "CLUSTER_NAME")


@pytest.fixture
def away(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that task 3 of array 12 is at, on another machine; we are no job."""
    folder = RunFolder.of(config, tmp_path / "runs")
    folder.register(config)
    task = dict(zip(NAMES, ("15", "12", "3", "1", "rehearsal"), strict=True))
    for name, value in task.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    lease = leases.acquire(folder.path)
    assert lease
    lease._over.set()
    lease._thread.join()
    lease.record["process"]["machine"] = "another"
    files.write_json(folder.path / "attempts" / "1.json", lease.record)
    for name in task:
        monkeypatch.delenv(f"SLURM_{name}")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "rehearsal")
    return folder


@pytest.mark.parametrize(
    ("told", "is_over"),
    [
        (line("12_3", restarts=1), False),
        (line("12_3", "PENDING", restarts=2), True),
        (line("12_3", restarts=2), True),
        (line("12_4", restarts=1), True),
        (line("15", restarts=1), True),
        ("", True),
    ],
)
def test_what_squeue_tells(away: RunFolder, squeue: Fake, told: str, is_over: bool) -> None:
    squeue(f"echo '{told}'")
    lease = leases.acquire(away.path)
    assert (lease is not None) == is_over
    if lease:
        assert lease.number == 2
        lease.end("stopped")


def test_no_answer_is_not_a_no(
    away: RunFolder, squeue: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it asked for again at once: others may have a run to train."""
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)
    asked = squeue("exec sleep 60")
    started = time.monotonic()
    assert leases.acquire(away.path) is None
    assert leases.acquire(away.path) is None
    assert time.monotonic() - started < 5
    assert len(asked.read_text().splitlines()) == 1
    monkeypatch.setattr(job_poller, "shared", job_poller.JobPoller())
    squeue("echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1")
    assert leases.acquire(away.path) is None


def test_jobs_of_others_are_not_asked_about(away: RunFolder, squeue: Fake) -> None:
    """To a user of another cluster, or without the right to see it, a living job looks gone."""
    asked, [path] = squeue("true"), (away.path / "attempts").iterdir()
    record = files.read_json(path) or {}
    for other in ({"user": -1}, {"slurm_cluster": "other"}, {"slurm_cluster": None}):
        assert leases.may_be_alive({**record, **other})
    assert leases.may_be_alive({k: v for k, v in record.items() if k != "slurm_job"})
    assert not asked.exists()
    assert not leases.may_be_alive(record)


def test_one_query_is_for_all(squeue: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at before a job began does not make it look gone."""
    asked, ours = squeue(f"echo '{line('1')}'"), job_poller.JobPoller()
    hour_ago = time.time() - 3600
    assert ours.is_over("2", 0, time.time()), "squeue was asked after this was known"
    assert not ours.is_over("1", 0, hour_ago)
    assert all(ours.is_over(str(job), 0, hour_ago) for job in range(3, 900))
    assert not ours.is_over("900", 0, time.time()), "it may have begun since"
    assert len(asked.read_text().splitlines()) == 1
    monkeypatch.setattr(ours, "_ask_at", 0.0)  # five seconds later
    assert ours.is_over("900", 0, time.time())
    assert len(asked.read_text().splitlines()) == 2


def test_the_first_writer_notices_where_both_live(away: RunFolder, squeue: Fake) -> None:
    """As after a slurmd died: the job runs again while its first process still does."""
    first = leases.Lease(away.path, 1, files.read_json(away.path / "attempts/1.json") or {})
    squeue(f"echo '{line('12_3', restarts=2)}'")
    second = leases.acquire(away.path)
    assert second
    HistoryFile(away, second).epoch([{"epoch": 1}])
    with pytest.raises(LeaseLost):
        HistoryFile(away, first).epoch([{"epoch": 9}])
    assert away.history() == [{"epoch": 1}]
    first.end("superseded")
    second.end("done")


def test_waiting_ends_when_slurm_says_so(
    away: RunFolder, squeue: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_poller, "_ASK_EVERY_SECONDS", 0.0)
    squeue(f"echo '{line('12_3', restarts=1)}'")
    assert leases.acquire(away.path) is None
    squeue("true")
    started = time.monotonic()
    dead = leases.wait_for_stalled([away.path], lambda: False)
    assert list(dead) == [away.path]
    assert time.monotonic() - started < leases.HEARTBEAT_SECONDS / 2
