"""python -m src.sweep status, on run folders written by tests.sweep.folders."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.cli.terminal import duration
from src.common import files
from src.common.errors import ExitStatus
from src.common.paths import ROOT, precision_decision_file
from src.config import RunConfig
from src.runs.run_folder import RunFolder
from src.runs.snapshot import Snapshot, State
from src.sweep import sets
from src.sweep.commands import status
from src.sweep.status import run_states
from src.sweep.status.device_time import total_seconds, wasted_seconds
from src.sweep.status.overview import overview
from tests.conftest import FakeSqueue
from tests.slurm.squeue import line
from tests.sweep import folders
from tests.sweep.folders import OTHER_MACHINE, attempt, numbers, put, write

BASE = RunConfig(base_dataset_path="synthetic", model_type="tinyvgg", num_epochs=4)
SECONDS = 2.0  # tolerance for file times


def run_of(number: int, **settings: Any) -> RunConfig:
    """Return a different run for each number."""
    return replace(BASE, seed=number, **settings)


@pytest.fixture
def sweep(tmp_path: Path) -> tuple[Path, Path]:
    """Write set files and run folders: 14 cells and 12 trainings in every state."""
    cosine = [replace(BASE, scheduler="cosine", gamma=gamma) for gamma in (0.95, 0.97, 0.99)]
    vit = [run_of(number, model_type="vit") for number in range(2)]
    runs = [run_of(number) for number in range(1, 10)]
    sets.write([[*cosine, *runs[:3]], [*runs[3:], *vit]], tmp_path / "sets")
    folder = tmp_path / "runs"
    finished_attempt = [attempt(600, "done")]
    put(folder, cosine[0], accuracy=0.7, tries=finished_attempt, epochs=[140] * 4)
    put(folder, runs[0], accuracy=0.8, tries=[attempt(1000, "done")], epochs=[240] * 4)
    put(folder, runs[1], pruned=0.3, tries=[attempt(90, "pruned")], epochs=[80])
    put(folder, runs[2], tries=[attempt(450)], epochs=[200, 100])
    put(folder, runs[3], tries=[attempt(300, "stopped")], epochs=[200], resumable=True)
    diverged = {"kind": "non-finite loss", "message": "train loss nan"}
    memory = {"kind": "OutOfMemoryError", "message": "CUDA out of memory"}
    disk = {"kind": "OSError", "message": "[Errno 28] No space left on device"}
    for run, failure in zip(runs[4:8], (diverged, memory, memory, disk), strict=True):
        put(folder, run, failure=failure, tries=[attempt(900, "failed")])
    put(folder, replace(BASE, seed=99), accuracy=0.99, tries=finished_attempt)  # in no set file
    for other in ("searches/resnet-01234567", "wandb/offline-run-20261121_114035-0123456789ab"):
        (folder / other).mkdir(parents=True)
    return tmp_path / "sets", folder


def status_json(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """Call status with --json and return the parsed output."""
    assert status.main([*map(str, words), "--json"]) == ExitStatus.DONE
    captured = capsys.readouterr()
    assert not captured.err
    return json.loads(captured.out)


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def counts(**states: int) -> dict[str, int]:
    return {state.value: states.get(state.value, 0) for state in State}


def test_json_counts_states_speed_time_left_and_failures(
    sweep: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report = status_json(capsys, "--sets", sweep[0], "--runs", sweep[1])
    assert report["all"]["trainings"] == counts(
        done=2, pruned=1, running=1, interrupted=1, failed=4, pending=3
    )
    assert report["all"]["cells"] == {**report["all"]["trainings"], "done": 4}
    assert report["models"]["vit"]["cells"] == counts(pending=2)
    assert report["models"]["tinyvgg"]["cells"]["done"] == 4
    assert report["sets"]["1"]["cells"] == counts(done=4, pruned=1, running=1)
    assert report["sets"]["1"]["trainings"] == counts(done=2, pruned=1, running=1)
    assert report["sets"]["2"]["trainings"] == counts(interrupted=1, failed=4, pending=3)
    [best] = report["best"]
    assert (best["model"], best["val_accuracy"]) == ("tinyvgg", 0.8)
    assert best["test_accuracy"] == pytest.approx(0.7)
    assert (best["name"], best["run_id"]) == (run_of(1).name, run_of(1).id)
    assert report["speed"]["running"] == report["speed"]["measured"] == 1
    assert report["speed"]["images_per_second"] == pytest.approx(8_000 * 2 / 300)
    tinyvgg, vit = report["left"]
    assert tinyvgg["trainings"] == 3
    assert tinyvgg["seconds_each"] == pytest.approx(800, abs=SECONDS)
    assert tinyvgg["seconds"] == pytest.approx(800 + 500 + 600, abs=3 * SECONDS)
    assert (vit["trainings"], vit["seconds_each"], vit["seconds"]) == (2, None, None)
    assert report["seconds_left"] is None
    assert report["queue"] is None
    assert report["wasted_device_hours"] == pytest.approx(1, abs=0.01)
    assert report["outside"] == 1
    causes = {one["kind"]: one for one in report["failures"]}
    assert {kind: one["trainings"] for kind, one in causes.items()} == {
        "out of memory": 2,
        "non-finite loss": 1,
        "no space left": 1,
    }
    assert report["failures"][0]["kind"] == "out of memory", "the most frequent failure comes first"
    assert "more memory" in causes["out of memory"]["hint"]
    assert causes["non-finite loss"]["example"].endswith(run_of(5).id)


def test_damaged_files_are_named_once_and_the_rest_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = [attempt(60, "done")]
    put(tmp_path, run_of(1), tries=done, accuracy=0.8)
    result = put(tmp_path, run_of(2), tries=done, accuracy=0.7) / "result.json"
    history = put(tmp_path, run_of(3), tries=[attempt(60)], epochs=[5], resumable=True)
    history /= "history.jsonl"
    config = put(tmp_path, run_of(4)) / "config.json"
    result.write_bytes(result.read_bytes()[:20])
    history.write_text(history.read_text() + '{"epoch": 2, "seconds": 1..2}\n')
    config.write_bytes(bytes(100))
    for _ in range(2):  # as --watch reads them
        assert status.main(["--all", "--runs", str(tmp_path)]) == ExitStatus.DONE
    shown = capsys.readouterr()
    assert shown.out.count("80.00%") == 2
    assert sorted(shown.err.splitlines()) == sorted(
        [
            f"{result}: damaged; the run does not count as finished",
            f"{history}: damaged; only epochs that can be read are counted",
            f"{config}: damaged; its number of epochs is not known",
        ]
    )


def test_screen_shows_same_numbers_as_json(
    sweep: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--sets", str(sweep[0]), "--runs", str(sweep[1])]
    assert status.main(words) == ExitStatus.DONE
    screen_text = capsys.readouterr().out
    row = next(line.split() for line in screen_text.splitlines() if line.startswith("tinyvgg "))
    assert row == ["tinyvgg", "2", "(4)", "1", "1", "1", "4", "1", "10", "(12)"]
    assert re.search(r"^all +2 \(4\) .* 12 \(14\) *$", screen_text, re.MULTILINE)
    for text in (
        "speed: 53 images/s, 1 of 1 running measured",
        "time left: unknown: no run is done yet of vit (4 epochs)",
        "Slurm: squeue is not in PATH: nothing is known of its jobs",
        "wasted: 1.00 device-hours",
        "2 failed: out of memory",
        "(one seed)",
        "1 more run folders belong to none of these sets",
    ):
        assert text in screen_text
    assert re.search(r"^tinyvgg +80.00% +70.00% ", screen_text, re.MULTILINE)
    assert re.search(r"^vit +4 +2 +unknown +unknown", screen_text, re.MULTILINE)


def test_status_says_what_precision_auto_means(
    sweep: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A node that cannot do it leaves the runs: they stay pending."""
    record = {"precision": "bfloat16", "model_type": "vit", "device": "NVIDIA H200"}
    precision_decision_file(sweep[1], "any").parent.mkdir()
    files.write_json(precision_decision_file(sweep[1], "vit-cuda-1"), record)
    files.write_text(precision_decision_file(sweep[1], "vit-cuda-2"), "{")
    words = ("--sets", sweep[0], "--runs", sweep[1])
    assert status_json(capsys, *words)["precisions"] == {"vit on NVIDIA H200": "bfloat16"}
    status.main(list(map(str, words)))
    assert "precision auto: bfloat16 for vit on NVIDIA H200" in capsys.readouterr().out


def test_all_and_set_arguments_select_runs(
    sweep: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    all_folders = status_json(capsys, "--all", "--runs", sweep[1])
    assert all_folders["all"]["trainings"] == counts(
        done=3, pruned=1, running=1, interrupted=1, failed=4
    )
    best = all_folders["best"][0]
    assert (best["val_accuracy"], best["seeds"]) == (pytest.approx((0.99 + 0.8) / 2), 2)
    assert best["val_deviation"] == pytest.approx(0.19 / 2**0.5)
    each = status_json(capsys, "--all", "--each-run", "--runs", sweep[1])["best"][0]
    assert (each["val_accuracy"], each["seeds"]) == (0.99, 1)
    assert all_folders["sets"] == {}
    one = status_json(capsys, "1", "--sets", sweep[0], "--runs", sweep[1])
    assert sum(one["all"]["trainings"].values()) == 4
    assert one["outside"] == 6
    only = overview([one for one in run_states.of_folders(sweep[1]) if one.model != "vit"], None)
    assert only.seconds_left == pytest.approx(733 - 300 + 533, abs=5 * SECONDS), (
        "the time left assumes one run at a time"
    )


def test_settings_that_change_no_result_do_not_part_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, BASE, accuracy=0.6)
    put(tmp_path, replace(BASE, seed=1, device="cpu", checkpoint_minutes=3.0), accuracy=0.8)
    put(tmp_path, replace(BASE, seed=1, label_smoothing=0.1), accuracy=0.65)
    [best] = status_json(capsys, "--all", "--runs", tmp_path)["best"]
    assert (best["val_accuracy"], best["seeds"]) == (pytest.approx(0.7), 2)


def test_outside_lists_folders_that_belong_to_no_set(
    sweep: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    expect_bad_input: Callable[..., str],
) -> None:
    words = ["--sets", str(sweep[0]), "--runs", str(sweep[1]), "--outside"]
    left = RunFolder.of(run_of(99), sweep[1]).path
    assert status_json(capsys, *words) == [{"folder": str(left), "state": "done"}]
    sets.write([sets.read(sweep[0] / "hyperparameters_2.txt")], sweep[0], replace=True)
    assert status.main(words) == ExitStatus.DONE
    *lines, last = capsys.readouterr().out.splitlines()
    listed = [line.split() for line in lines]
    cosine = replace(BASE, scheduler="cosine", gamma=0.95)
    expected = {cosine: "done", run_of(1): "done", run_of(2): "pruned", run_of(3): "running"}
    states = {str(RunFolder.of(run, sweep[1]).path): state for run, state in expected.items()}
    assert {path: state for state, path in listed} == {**states, str(left): "done"}
    assert last == "5 run folders belong to none of these sets"
    status.main(words[:-1])
    assert "5 more run folders belong to none of these sets: --outside" in capsys.readouterr().out
    for other in ("--all", "--watch"):
        error = expect_bad_input(status.main, "--outside", other)
        assert error == f"error: --outside, {other}: expected one of them\n"


def test_time_left_is_divided_by_running_workers(tmp_path: Path) -> None:
    put(tmp_path, run_of(0), accuracy=0.5, tries=[attempt(1000, "done")])
    for number in (1, 2):
        put(tmp_path, run_of(number), tries=[attempt(500)], epochs=[240] * number)
    put(tmp_path, run_of(3), tries=[attempt(500)], epochs=[400, 400], silent=1000)
    put(tmp_path, run_of(4))
    report = overview(run_states.of_folders(tmp_path), None)
    assert (report.speed.running, report.speed.silent, report.speed.measured) == (3, 1, 2)
    assert report.speed.images_per_second == pytest.approx(2 * 8_000 / 240)
    assert report.left[0].seconds == pytest.approx(760 + 520 + 200 + 1000, abs=4 * SECONDS)
    assert report.seconds_left == pytest.approx(2480 / 2, abs=4 * SECONDS)


def test_wasted_seconds_counts_lost_attempt_time(tmp_path: Path) -> None:
    """Compute wasted seconds of killed, stopped, superseded and failed attempts."""
    killed, done = attempt(1000), attempt(500, "done")
    cases: list[tuple[dict[str, Any], float]] = [
        ({"tries": [done], "accuracy": 0.5}, 0),
        ({"tries": [killed, done], "accuracy": 0.5, "epochs": [250] * 5}, 250),
        ({"tries": [killed, done], "accuracy": 0.5, "epochs": [100] * 5}, 1000),
        ({"tries": [attempt(1000, "stopped"), done], "accuracy": 0.5, "epochs": [100] * 5}, 0),
        ({"tries": [attempt(1000, "superseded"), done], "accuracy": 0.5}, 1000),
        ({"tries": [attempt(700, "failed")], "failure": {"kind": "x"}}, 700),
        ({"tries": [attempt(300, "stopped"), attempt(700, "failed")], "failure": "{"}, 1000),
        ({"tries": [killed, killed], "epochs": [100]}, 1000),
        ({"tries": [attempt(400, "stopped")], "epochs": [100] * 3, "resumable": True}, 0),
    ]
    for number, (written, seconds) in enumerate(cases):
        path = put(tmp_path, run_of(number), **written)
        assert wasted_seconds([Snapshot(path)]) == pytest.approx(seconds, abs=3 * SECONDS), written


def test_runs_that_share_a_device_count_its_time_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 slots of one process for an hour, of which one failed half-way and was never continued."""
    now = time.time()  # of all attempts: to write 49 folders takes seconds on a busy machine
    monkeypatch.setattr(folders, "time", SimpleNamespace(time=lambda: now))
    shared = {"process": {**OTHER_MACHINE, "start": 0.5}}
    done = [
        put(tmp_path, run_of(n), accuracy=0.5, tries=[attempt(3600, "done", **shared)])
        for n in range(47)
    ]
    failed = put(
        tmp_path,
        run_of(47),
        failure={"kind": "KeyError", "message": "x"},
        tries=[attempt(1800, "failed", **shared)],
    )
    alone = put(tmp_path, run_of(48), accuracy=0.5, tries=[attempt(1800, "done")])
    runs = [Snapshot(path) for path in (*done, failed)]
    assert total_seconds(runs) == pytest.approx(3600, abs=SECONDS)
    assert wasted_seconds(runs) == pytest.approx(1800 / 48, rel=0.1)
    assert total_seconds([*runs, Snapshot(alone)]) == pytest.approx(5400, abs=2 * SECONDS)


def test_finished_runs_are_not_read_where_nothing_was_lost(
    tmp_path: Path,
) -> None:
    path = put(tmp_path, run_of(1), accuracy=0.5, tries=[attempt(60, "done")])
    run = Snapshot(path)
    assert wasted_seconds([run]) == 0
    assert "attempts" not in vars(run)


def test_attempt_duration_is_bounded_by_heartbeats(tmp_path: Path) -> None:
    """Attempt times are bounded by heartbeats, since copied folders have new file times."""
    path = put(tmp_path, run_of(0), tries=[attempt(100, "done")], accuracy=0.5)
    for written in (0, time.time() + 10_000):
        os.utime(path / "attempts" / "1.json", (written, written))
        assert 90 <= Snapshot(path).attempts[0].seconds <= 120


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"run_id": "x"}', "\xff"])
def test_damaged_files_count_as_failed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    path = put(tmp_path, run_of(0), tries=[attempt(60, "done")], resumable=True)
    (path / "result.json").write_bytes(damage.encode("latin-1"))
    for name in ("failure.json", "history.jsonl", "pruned.json"):
        (path / name).write_bytes(damage.encode("latin-1"))
    assert status.main(["--all", "--runs", str(tmp_path), "--json"]) == ExitStatus.DONE
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert report["all"]["trainings"] == counts(failed=1)
    assert report["failures"][0]["kind"] == "unreadable failure.json"
    assert RunFolder(path).state() == State.FAILED
    for name in ("result.json", "pruned.json"):
        assert output.err.count(f"{path / name}: damaged; ") == 1


def test_status_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").mkdir()
    report = status_json(capsys, "--all", "--runs", tmp_path / "runs")
    assert report["all"]["trainings"] == counts()
    assert report["seconds_left"] == 0
    report = status_json(capsys, "--runs", tmp_path / "runs")
    assert report["all"]["cells"] == counts(pending=864)
    assert report["all"]["trainings"] == counts(pending=672)
    status.main(["--all", "--runs", str(tmp_path / "runs")])
    assert "speed: nothing is running" in capsys.readouterr().out


def test_bad_input_gives_one_line_error(
    expect_bad_input: Callable[..., str], tmp_path: Path
) -> None:
    assert "no such folder" in expect_bad_input(status.main, "--runs", tmp_path / "missing")
    assert "no set files" in expect_bad_input(status.main, "--sets", tmp_path)
    assert "expected a number" in expect_bad_input(status.main, "19")
    assert "0.1 or more" in expect_bad_input(status.main, "--watch=0")
    assert "expected one of them" in expect_bad_input(status.main, "--watch", "--json")
    assert "expected no sets with it" in expect_bad_input(status.main, "--all", "3")


def test_pending_reasons_and_held_jobs_are_shown(
    tmp_path: Path, squeue: FakeSqueue, capsys: pytest.CaptureFixture[str]
) -> None:
    own_line = partial(line, folder=str(ROOT), name="cifar10-set")
    lines = [
        *(own_line(job, "PENDING", reason="Priority") for job in ("7_1", "7_2")),
        own_line("7_3", "PENDING", reason="Resources"),
        own_line("7_4", raw="8"),
        own_line("7_5", "PENDING", reason="launch failed requeued held"),
        own_line("7_6", "PENDING", reason="launch_failed_requeued_held"),
        line("9", "PENDING", reason="Dependency", folder=str(ROOT), name="other"),
        line("10", "PENDING", reason="X", name="cifar10"),
    ]
    squeue("\n".join(f"echo '{text}'" for text in lines))
    (tmp_path / "runs").mkdir()
    report = status_json(capsys, "--all", "--runs", tmp_path / "runs")
    assert (report["queue"]["active"], report["queue"]["waiting"]) == (1, 5)
    assert (report["queue"]["reasons"]["Priority"], report["queue"]["reasons"]["Resources"]) == (
        2,
        1,
    )
    assert report["queue"]["stranded"] == ["7_5", "7_6"]
    status.main(["--all", "--runs", str(tmp_path / "runs")])
    output = capsys.readouterr().out
    assert "Slurm: 1 jobs running, 5 waiting: 2 Priority, 1 " in output
    assert "scontrol release 7_5,7_6" in output


@pytest.mark.parametrize("body", ["exec /bin/sleep 60", "exit 1"])
def test_status_without_slurm_answer_shows_file_state(
    sweep: tuple[Path, Path],
    squeue: FakeSqueue,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
) -> None:
    monkeypatch.setattr(status, "_SQUEUE_TIMEOUT_SECONDS", 0.3)
    squeue(body)
    started = time.monotonic()
    report = status_json(capsys, "--all", "--runs", sweep[1])
    assert time.monotonic() - started < 10
    assert report["queue"] is None
    assert report["all"]["trainings"]["done"] == 3


def test_watch_refreshes_until_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    words = ["--all", "--runs", tmp_path / "runs", "--watch", "0.2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "src.sweep", "status", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "FORCE_COLOR": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    refreshes = 0
    while refreshes < 3:
        refreshes += "speed: nothing is running" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")


def test_data_folder_given_to_work_is_given_to_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Set files leave out where the data is, and runs on a stand-in are runs of their own."""
    sets.write([[RunConfig(model_type="tinyvgg", num_epochs=4)]], tmp_path / "sets")
    put(tmp_path / "runs", BASE, accuracy=0.5)
    words = ("--sets", tmp_path / "sets", "--runs", tmp_path / "runs")
    for extra, done in (((), 0), (("-d", "synthetic"), 1)):
        assert status_json(capsys, *words, *extra)["all"]["trainings"]["done"] == done


@pytest.fixture
def four_thousand_runs(tmp_path: Path) -> Path:
    """Write 4,000 run folders, most of them done."""
    config = json.dumps(BASE.as_dict(), indent=2)
    per_class = {f"test_per_class_accuracy_{n}": 0.123456789 for n in range(60)}
    result = json.dumps({**numbers(BASE, 0.5), **per_class}, indent=2)
    record = {**attempt(600, "done"), "started": "2026-11-21T11:40:35+00:00"}
    row = json.dumps({"epoch": 1, **per_class, "seconds": 1.5}) + "\n"
    for number in range(4_000):
        path = tmp_path / "runs" / "tinyvgg" / f"{BASE.name}-{number:010x}"
        (path / "attempts").mkdir(parents=True)
        (path / "cells").mkdir()
        (path / "config.json").write_text(config)
        (path / "cells" / "one.json").write_text(config)
        if number % 10 < 8:
            (path / "result.json").write_text(result)
        elif number % 20 == 8:
            (path / "failure.json").write_text('{"kind": "KeyError", "message": "x"}')
        elif number % 100 == 9:
            record = {**record, "ended": "stopped"}
            (path / "resume.pt").touch()
            (path / "history.jsonl").write_text(row * 40)
        if number % 20 != 18:
            write(path / "attempts" / "1.json", record)
    return tmp_path / "runs"


def test_status_of_four_thousand_runs_takes_a_second(
    four_thousand_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CPU time is measured, since wall-clock time depends on other processes."""

    def measure() -> float:
        started = time.process_time()
        assert status.main(["--all", "--runs", str(four_thousand_runs)]) == ExitStatus.DONE
        return time.process_time() - started

    assert min(measure() for _ in range(2)) < (4 if os.environ.get("CI") else 1.5)
    capsys.readouterr()
    report = status_json(capsys, "--all", "--runs", four_thousand_runs)
    assert report["all"]["trainings"]["done"] == 3_200
    assert sum(report["all"]["trainings"].values()) == 4_000
    shutil.rmtree(four_thousand_runs)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (59.6, "1 min"),
        (3540, "59 min"),
        (3599, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (172_800, "2 d 0 h"),
        (200_000, "2 d 8 h"),
    ],
)
def test_duration_format(seconds: float, words: str) -> None:
    assert duration(seconds) == words
