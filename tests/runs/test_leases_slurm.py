"""Leases held by Slurm jobs on other machines, with a fake squeue."""

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
from tests.conftest import FakeSqueue
from tests.runs.histories import write_history
from tests.slurm.squeue import line

NAMES = ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "RESTART_COUNT", "CLUSTER_NAME")


@pytest.fixture
def leased_elsewhere(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunFolder:
    """Create a run leased by array task 12_3 on another machine."""
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
    ("squeue_output", "is_over"),
    [
        (line("12_3", restarts=1), False),
        (line("12_3", "PENDING", restarts=2), True),
        (line("12_3", restarts=2), True),
        (line("12_4", restarts=1), True),
        (line("15", restarts=1), True),
        ("", True),
    ],
)
def test_lease_is_taken_over_only_if_job_is_over(
    leased_elsewhere: RunFolder, squeue: FakeSqueue, squeue_output: str, is_over: bool
) -> None:
    squeue(f"echo '{squeue_output}'")
    lease = leases.acquire(leased_elsewhere.path)
    assert (lease is not None) == is_over
    if lease:
        assert lease.number == 2
        lease.end("stopped")


def test_unanswered_squeue_keeps_lease_and_is_not_repeated(
    leased_elsewhere: RunFolder, squeue: FakeSqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unanswered query counts as unknown, and is not repeated at once."""
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 0.3)
    call_log = squeue("exec sleep 60")
    started = time.monotonic()
    assert leases.acquire(leased_elsewhere.path) is None
    assert leases.acquire(leased_elsewhere.path) is None
    assert time.monotonic() - started < 5
    assert len(call_log.read_text().splitlines()) == 1
    monkeypatch.setattr(job_poller, "shared", job_poller.JobPoller())
    squeue("echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1")
    assert leases.acquire(leased_elsewhere.path) is None


def test_jobs_of_other_users_or_clusters_count_as_alive(
    leased_elsewhere: RunFolder, squeue: FakeSqueue
) -> None:
    """squeue may not show jobs of other users or clusters, so these count as alive."""
    call_log, [path] = squeue("true"), (leased_elsewhere.path / "attempts").iterdir()
    record = files.read_json(path) or {}
    for other in ({"user": -1}, {"slurm_cluster": "other"}, {"slurm_cluster": None}):
        assert leases.may_be_alive({**record, **other})
    assert leases.may_be_alive({k: v for k, v in record.items() if k != "slurm_job"})
    assert not call_log.exists()
    assert not leases.may_be_alive(record)


def test_job_poller_uses_one_query_for_all_jobs(
    squeue: FakeSqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cached answer does not declare jobs over that were leased after the query."""
    call_log, poller = squeue(f"echo '{line('1')}'"), job_poller.JobPoller()
    hour_ago = time.time() - 3600
    assert poller.is_over("2", 0, time.time()), "squeue was called after this lease was known"
    assert not poller.is_over("1", 0, hour_ago)
    assert all(poller.is_over(str(job), 0, hour_ago) for job in range(3, 900))
    assert not poller.is_over("900", 0, time.time()), (
        "the job may have started after the cached answer"
    )
    assert len(call_log.read_text().splitlines()) == 1
    monkeypatch.setattr(poller, "_ask_at", 0.0)  # as if five seconds had passed
    assert poller.is_over("900", 0, time.time())
    assert len(call_log.read_text().splitlines()) == 2


def test_superseded_process_gets_lease_lost_on_write(
    leased_elsewhere: RunFolder, squeue: FakeSqueue
) -> None:
    """After a slurmd failure a job may run again while its first process is alive."""
    first = leases.Lease(
        leased_elsewhere.path, 1, files.read_json(leased_elsewhere.path / "attempts/1.json") or {}
    )
    squeue(f"echo '{line('12_3', restarts=2)}'")
    second = leases.acquire(leased_elsewhere.path)
    assert second
    write_history(HistoryFile(leased_elsewhere, second), [{"epoch": 1}])
    with pytest.raises(LeaseLost):
        write_history(HistoryFile(leased_elsewhere, first), [{"epoch": 9}])
    assert leased_elsewhere.history() == [{"epoch": 1}]
    first.end("superseded")
    second.end("done")


def test_wait_for_stalled_ends_when_job_is_gone(
    leased_elsewhere: RunFolder, squeue: FakeSqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_poller, "_ASK_EVERY_SECONDS", 0.0)
    squeue(f"echo '{line('12_3', restarts=1)}'")
    assert leases.acquire(leased_elsewhere.path) is None
    squeue("true")
    started = time.monotonic()
    dead = leases.wait_for_stalled([leased_elsewhere.path], lambda: False)
    assert list(dead) == [leased_elsewhere.path]
    assert time.monotonic() - started < leases.HEARTBEAT_SECONDS / 2
