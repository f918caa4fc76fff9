"""src.slurm.job_queue with a fake squeue that prints recorded output."""

import time
from pathlib import Path

import pytest

from src.common.paths import ROOT
from src.slurm import client, job_poller, job_queue
from src.slurm.job_queue import JobState
from tests.conftest import FakeSqueue
from tests.slurm.squeue import line

SQUEUE_LINES = (
    line("1_2", "PENDING", raw="1", reason="JobArrayTaskLimit", node="", left="UNLIMITED"),
    line("1_1", restarts=3, raw="3", left="1-02:03:04", name="a|b"),
    line("1_4", raw="1", node="n[2-3]", left="59:58"),
    line("2", "PENDING", left="NOT_SET", folder=f"{ROOT}/slurm_cluster", name="cifar10-set"),
    line("9", "NEW_IN_SLURM_99", left="INVALID", folder=str(ROOT)),
)


def test_jobs_parses_all_jobs_from_one_squeue_call(squeue: FakeSqueue) -> None:
    call_log = squeue("cat <<'E'\n" + "\n".join(SQUEUE_LINES) + "\nE")
    jobs = job_queue.jobs()
    assert jobs is not None
    assert {job.id for job in job_queue.distinct(jobs)} == {"1_1", "1_2", "1_4", "2", "9"}
    waiting, running = jobs["1_2"], jobs["1_1"]
    assert (waiting.state, waiting.reason, waiting.node) == (
        JobState.PENDING,
        "JobArrayTaskLimit",
        "",
    )
    assert (running.state, running.reason, running.node) == (JobState.ACTIVE, "", "n1")
    assert (running.restarts, running.seconds_left) == (3, 93784)
    assert jobs["1_4"].seconds_left == 3598
    assert waiting.seconds_left is None
    assert running.name == "a|b"
    assert jobs["3"] is running
    assert jobs["1"] is jobs["1_4"], "a raw id is that of the running task, not of pending ones"
    assert jobs["9"].state == JobState.ACTIVE, "unknown states count as active"
    assert "7" not in jobs
    assert [job.id for job in job_queue.distinct(jobs) if job.is_ours] == ["2"]
    [arguments] = call_log.read_text().splitlines()
    assert "--me" in arguments


@pytest.mark.parametrize("body", ["exit 1", "echo slurm_load_jobs error >&2; exit 1"])
def test_squeue_error_gives_none(
    squeue: FakeSqueue, body: str, capfd: pytest.CaptureFixture[str]
) -> None:
    squeue(body)
    assert job_queue.jobs() is None
    assert "squeue" in capfd.readouterr().err


def test_reason_of_a_failure_is_slurms_own(
    squeue: FakeSqueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue("echo 'slurm_load_jobs error: Unable to contact controller' >&2; exit 1")
    assert job_queue.jobs(quiet=True) is None
    reason = "squeue: slurm_load_jobs error: Unable to contact controller"
    assert client.failure_of("squeue") == reason
    squeue("exit 7")
    assert job_queue.jobs(quiet=True) is None
    assert client.failure_of("squeue") == "squeue: exit status 7"
    squeue("echo half an answer; exec sleep 60")
    assert job_queue.jobs(timeout=0.2, quiet=True) is None
    assert client.failure_of("squeue") == "squeue: no answer for 0.2 seconds"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert client.failure_of("squeue") == "squeue is not in PATH"


def test_names_of_jobs_may_be_in_any_encoding(squeue: FakeSqueue) -> None:
    """A name in Latin-1, one with a line separator, and a folder that is cut within a letter."""
    names = (b"caf\xe9", "a\u2028b".encode(), b"x")
    text = [line(str(number), folder="/x", name="NAME") for number in range(3)]
    cut = text[2].encode().replace(b"/x", b"/\xc3")
    lines = [one.encode().replace(b"NAME", name) for one, name in zip(text, names, strict=True)]
    lines[2] = cut
    recorded = squeue("cat ${0%/*}/answer").parent / "bin" / "answer"
    recorded.write_bytes(b"\n".join(lines) + b"\n")
    found = job_queue.jobs()
    assert found is not None
    assert not found.unreadable
    assert set(found) == {"0", "1", "2"}
    assert found["0"].name == "caf\N{REPLACEMENT CHARACTER}"


def test_hanging_squeue_gives_none_after_timeout(squeue: FakeSqueue) -> None:
    squeue("exec sleep 60")
    started = time.monotonic()
    assert job_queue.jobs(timeout=0.3) is None
    assert time.monotonic() - started < 5


def test_missing_squeue_gives_none_silently(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert job_queue.jobs() is None
    assert not capfd.readouterr().err


def test_empty_queue_gives_empty_dict(squeue: FakeSqueue) -> None:
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
    squeue: FakeSqueue, broken: str, capfd: pytest.CaptureFixture[str]
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


def test_heterogeneous_job_is_readable(squeue: FakeSqueue) -> None:
    squeue(f"echo '{line('12+1', raw='13')}'")
    found = job_queue.jobs()
    assert found is not None
    assert not found.unreadable
    assert found["13"].id == "12+1"
