"""Attempts of other machines, whose jobs Slurm is asked about."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src import files, slurm
from src.config import RunConfig
from src.errors import Superseded
from src.results import attempts
from src.results.store import RunFolder
from src.results.tracking import HistoryFile

Queue = Callable[[str], Path]
NAMES = ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "RESTART_COUNT", "CLUSTER_NAME")


@pytest.fixture
def away(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that task 3 of array 12 is at, on another machine; we are no job."""
    folder = RunFolder.of(config, tmp_path / "runs")
    folder.register(config)
    task = dict(zip(NAMES, ("15", "12", "3", "1", "rehearsal"), strict=True))
    for name, value in task.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    claim = attempts.claim(folder.path)
    assert claim
    claim._over.set()
    claim._thread.join()
    claim.record["process"]["machine"] = "another"
    files.write_json(folder.path / "attempts" / "1.json", claim.record)
    for name in task:
        monkeypatch.delenv(f"SLURM_{name}")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "rehearsal")
    return folder


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """Puts an squeue into PATH that does as it is told; where it notes that it was asked."""
    monkeypatch.setattr(slurm, "watch", slurm.Watch())
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    asked = tmp_path / "asked"

    def squeue(body: str) -> Path:
        (tmp_path / "squeue").write_text(f'#!/bin/bash\necho "$@" >>{asked}\n{body}\n')
        (tmp_path / "squeue").chmod(0o755)
        return asked

    return squeue


@pytest.mark.parametrize(
    ("told", "is_over"),
    [
        ("12_3 RUNNING 1", False),
        ("12_3 PENDING 2", True),
        ("12_3 RUNNING 2", True),
        ("12_4 RUNNING 1", True),
        ("15 RUNNING 1", True),
        ("", True),
    ],
)
def test_what_squeue_tells(away: RunFolder, queue: Queue, told: str, is_over: bool) -> None:
    queue(f"echo '{told}'")
    claim = attempts.claim(away.path)
    assert (claim is not None) == is_over
    if claim:
        assert claim.number == 2
        claim.end("stopped")


def test_no_answer_is_not_a_no(
    away: RunFolder, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it asked for again at once: others may have a run to train."""
    monkeypatch.setattr(slurm, "ANSWER_SECONDS", 0.3)
    asked = queue("exec sleep 60")
    started = time.monotonic()
    assert attempts.claim(away.path) is None
    assert attempts.claim(away.path) is None
    assert time.monotonic() - started < 5
    assert len(asked.read_text().splitlines()) == 1
    monkeypatch.setattr(slurm, "watch", slurm.Watch())
    queue("echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1")
    assert attempts.claim(away.path) is None


def test_jobs_of_others_are_not_asked_about(away: RunFolder, queue: Queue) -> None:
    """To a user of another cluster, or without the right to see it, a living job looks gone."""
    asked, [path] = queue("true"), (away.path / "attempts").iterdir()
    record = files.read_json(path) or {}
    for other in ({"user": -1}, {"slurm_cluster": "other"}, {"slurm_cluster": None}):
        assert attempts.may_be_alive({**record, **other})
    assert attempts.may_be_alive({k: v for k, v in record.items() if k != "slurm_job"})
    assert not asked.exists()
    assert not attempts.may_be_alive(record)


def test_one_query_is_for_all(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at before a job began does not make it look gone."""
    asked, watch = queue("echo 1 RUNNING 0"), slurm.Watch()
    hour_ago = time.time() - 3600
    assert watch.is_over("2", 0, time.time()), "squeue was asked after this was known"
    assert not watch.is_over("1", 0, hour_ago)
    assert all(watch.is_over(str(job), 0, hour_ago) for job in range(3, 900))
    assert not watch.is_over("900", 0, time.time()), "it may have begun since"
    assert len(asked.read_text().splitlines()) == 1
    monkeypatch.setattr(watch, "_ask_at", 0.0)  # five seconds later
    assert watch.is_over("900", 0, time.time())
    assert len(asked.read_text().splitlines()) == 2


def test_the_first_writer_notices_where_both_live(away: RunFolder, queue: Queue) -> None:
    """As after a slurmd died: the job runs again while its first process still does."""
    first = attempts.Claim(away.path, 1, files.read_json(away.path / "attempts/1.json") or {})
    queue("echo 12_3 RUNNING 2")
    second = attempts.claim(away.path)
    assert second
    HistoryFile(away, second).epoch([{"epoch": 1}])
    with pytest.raises(Superseded):
        HistoryFile(away, first).epoch([{"epoch": 9}])
    assert away.history() == [{"epoch": 1}]
    first.end("superseded")
    second.end("done")


def test_waiting_ends_when_slurm_says_so(
    away: RunFolder, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_ASK_EVERY_SECONDS", 0.0)
    queue("echo 12_3 RUNNING 1")
    assert attempts.claim(away.path) is None
    queue("true")
    started = time.monotonic()
    dead = attempts.standing_still([away.path], lambda: False)
    assert list(dead) == [away.path]
    assert time.monotonic() - started < attempts.HEARTBEAT_SECONDS / 2
