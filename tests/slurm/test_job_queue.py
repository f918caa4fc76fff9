"""What is asked of squeue: a stand-in that answers as the real one was seen to."""

import time
from pathlib import Path

import pytest

from src.common.paths import ROOT
from src.slurm import job_poller, job_queue
from src.slurm.job_queue import JobState
from tests.conftest import Fake
from tests.slurm.squeue import line

SAID = (
    line("1_2", "PENDING", raw="1", reason="JobArrayTaskLimit", node="", left="UNLIMITED"),
    line("1_1", restarts=3, raw="3", left="1-02:03:04", name="a|b"),
    line("1_4", raw="1", node="n[2-3]", left="59:58"),
    line("2", "PENDING", left="NOT_SET", folder=f"{ROOT}/slurm_cluster", name="cifar10-set"),
    line("9", "NEW_IN_SLURM_99", left="INVALID", folder=str(ROOT)),
)


def test_all_jobs_by_one_query(squeue: Fake) -> None:
    asked = squeue("cat <<'E'\n" + "\n".join(SAID) + "\nE")
    found = job_queue.jobs()
    assert found is not None
    assert {job.id for job in job_queue.distinct(found)} == {"1_1", "1_2", "1_4", "2", "9"}
    waiting, running = found["1_2"], found["1_1"]
    assert (waiting.state, waiting.reason, waiting.node) == (
        JobState.WAITING,
        "JobArrayTaskLimit",
        "",
    )
    assert (running.state, running.reason, running.node) == (JobState.ACTIVE, "", "n1")
    assert (running.restarts, running.seconds_left) == (3, 93784)
    assert found["1_4"].seconds_left == 3598
    assert waiting.seconds_left is None
    assert running.name == "a|b"
    assert found["3"] is running
    assert found["1"] is found["1_4"], "a raw id names the task that started, not those that wait"
    assert found["9"].state == JobState.ACTIVE, "unknown is not dead"
    assert "7" not in found
    assert [job.id for job in job_queue.distinct(found) if job.is_ours] == ["2"]
    [words] = asked.read_text().splitlines()
    assert "--me" in words


@pytest.mark.parametrize("body", ["exit 1", "echo slurm_load_jobs error >&2; exit 1"])
def test_an_error_is_unknown(squeue: Fake, body: str, capfd: pytest.CaptureFixture[str]) -> None:
    squeue(body)
    assert job_queue.jobs() is None
    assert "squeue" in capfd.readouterr().err


def test_a_hanging_squeue_is_unknown_soon(squeue: Fake) -> None:
    squeue("exec sleep 60")
    started = time.monotonic()
    assert job_queue.jobs(seconds=0.3) is None
    assert time.monotonic() - started < 5


def test_without_slurm_all_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert job_queue.jobs() is None
    assert not capfd.readouterr().err


def test_an_empty_queue_is_known(squeue: Fake) -> None:
    squeue("exit 0")
    assert job_queue.jobs() == {}


UNREADABLE = {
    "a line cut in the middle": "5_1 |5 |RUNN",
    "a restart count that is no number": line("5").replace(f"{0:<20}|", f"{'N/A':<20}|", 1),
    "a raw id that is no number": line("5", raw="?"),
    "an error in place of a job": "slurm_load_jobs: Unable to contact slurm controller",
}


@pytest.mark.parametrize("broken", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_job_that_unreadable_answer_lacks_is_unknown_not_gone(
    squeue: Fake, broken: str, capfd: pytest.CaptureFixture[str]
) -> None:
    squeue(f"cat <<'E'\n{line('1')}\n{broken}\n{line('2', 'COMPLETED')}\nE")
    found = job_queue.jobs()
    assert found is not None
    assert found.unreadable == (broken.strip(),)
    assert set(found) == {"1", "2"}
    assert f"squeue: cannot read the line {broken.strip()!r}" in capfd.readouterr().err
    poller = job_poller.JobPoller()
    assert not poller.is_over("7", 0, time.time()), "it may be in the line that cannot be read"
    assert not poller.is_over("1", 0, time.time())
    assert poller.is_over("2", 0, time.time()), "what the answer shows is known"


def test_heterogeneous_job_is_readable(squeue: Fake) -> None:
    squeue(f"echo '{line('12+1', raw='13')}'")
    found = job_queue.jobs()
    assert found is not None
    assert not found.unreadable
    assert found["13"].id == "12+1"
