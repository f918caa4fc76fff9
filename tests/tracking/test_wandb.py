"""Weights & Biases: offline and online logging, failures of wandb, sync."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src import data
from src.common import files, paths
from src.common.errors import ExitStatus, Stopped
from src.config import RunConfig
from src.data.dataset import Dataset
from src.run import Outcome, RunOptions, run
from src.runs.run_folder import RunFolder, State
from src.sweep import sets
from src.sweep.commands import work
from src.tracking import wandb_process
from src.tracking.wandb_process import WandbProcess
from tests.conftest import RunCommand
from tests.tracking import offline

FAKE = Path(__file__).parent / "fake"
PATIENCE_SECONDS = 1.0


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, small_dataset: Dataset) -> None:
    monkeypatch.setattr(data, "load", lambda path, name: small_dataset)
    for name in ("_PATIENCE_SECONDS", "_STOPPED_SECONDS"):  # wandb starts slowly on a busy machine
        monkeypatch.setattr(wandb_process, name, wandb_process._MAX_SECONDS)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake_wandb(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., list[dict[str, Any]]]:
    """Replace wandb by the fake module; return a function that lists its recorded calls."""
    log = tmp_path / "told.jsonl"
    monkeypatch.setenv("PYTHONPATH", str(FAKE))
    monkeypatch.setenv("FAKE_WANDB_LOG", str(log))

    def calls(what: str) -> list[dict[str, Any]]:
        lines = log.read_text().splitlines() if log.exists() else []
        return [one for one in map(json.loads, lines) if one["what"] == what]

    return calls


def train_with_wandb(
    configs: Sequence[RunConfig], runs_dir: Path, mode: str | None, **more: Any
) -> tuple[list[Outcome], list[str]]:
    """Train with wandb logging; return the outcomes and the logged messages."""
    messages: list[str] = []
    with WandbProcess(mode, runs_dir, sweep="tests", log=messages.append) as tracking:
        return run(configs, runs_dir, RunOptions(tracking=tracking, **more)), messages


def seeds(config: RunConfig, count: int) -> list[RunConfig]:
    return [replace(config, seed=seed) for seed in range(count)]


def reproducible_files(folder: RunFolder) -> list[object]:
    """Return history, predictions and weights, which must not depend on wandb."""
    rows = [{**row, "seconds": 0} for row in folder.history()]
    names = (paths.PREDICTIONS, paths.weights("best_val_acc"))
    return [rows, *((folder.path / name).read_bytes() for name in names)]


def read(runs_dir: Path, folder: RunFolder) -> dict[str, list[Any]]:
    """Return the records of a folder's only offline run by kind."""
    wandb_id = (files.read_json(folder.path / paths.WANDB) or {})["id"]
    [file] = runs_dir.glob(f"wandb/offline-run-*-{wandb_id}/*.wandb")
    records: dict[str, list[Any]] = {}
    for record in offline.records(file):
        kind = record.WhichOneof("record_type")
        records.setdefault(kind, []).append(getattr(record, kind))
    return records


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_offline_run_has_config_epochs_and_summary(config: RunConfig, tmp_path: Path) -> None:
    outcomes, messages = train_with_wandb(seeds(config, 2), tmp_path, "offline")
    assert not messages
    for outcome in outcomes:
        folder = RunFolder(outcome.folder)
        records = read(tmp_path, folder)
        [run_record] = records["run"][:1]
        assert run_record.project == "cifar10-sweep"
        assert (run_record.run_group, run_record.job_type) == ("tests cifar10net", "cifar10net")
        metadata = values(run_record.config.update)
        assert metadata["learning_rate"] == 0.001
        assert metadata["seed"] == outcome.config.seed
        rows = [values(row.item) for row in records["history"]]
        assert len(rows) == 2
        for row, ours in zip(rows, folder.history(), strict=True):
            assert row.items() >= ours.items()
        summary: dict[str, Any] = {}
        for part in records["summary"]:
            summary |= values(part.update)
        assert outcome.result
        for name in ("test_accuracy_best_val_acc", "test_loss_best_val_acc", "best_epoch"):
            assert summary[name] == outcome.result[name]
        assert summary["state"] == "done"
        assert [end.exit_code for end in records["exit"]] == [0]


def test_workers_name_the_sweep_after_the_runs_folder_as_sync_does(
    config: RunConfig, fake_wandb: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    """The sets of a submitted worker are in a folder `sets`, whatever the sweep is."""
    sets.write([[config]], tmp_path / "sets")
    options = ("--runs", str(tmp_path / "my_runs"), "--wandb", "online", "-q")
    assert work.main(["--sets", str(tmp_path / "sets"), *options]) == ExitStatus.DONE
    [call] = fake_wandb("init")
    assert call["group"] == "my_runs cifar10net"


def test_default_mode_is_offline_without_key_and_can_be_disabled(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [outcome], messages = train_with_wandb([config], tmp_path / "a", None)
    assert not messages
    assert len(read(tmp_path / "a", RunFolder(outcome.folder))["history"]) == 2
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for place, mode in (("b", None), ("c", "disabled")):
        [outcome], messages = train_with_wandb([config], tmp_path / place, mode)
        assert not messages
        names = {path.name for path in (tmp_path / place).iterdir()}
        assert names == {"cifar10net", "precision"}  # the run, and what auto precision means
        assert not (outcome.folder / paths.WANDB).exists()


def test_resumed_run_is_one_offline_run(config: RunConfig, tmp_path: Path) -> None:
    folder = RunFolder.of(config, tmp_path)
    with pytest.raises(Stopped):
        train_with_wandb([config], tmp_path, "offline", stop=lambda: bool(folder.history()))
    first = read(tmp_path, folder)
    assert len(first["history"]) == len(folder.history()) == 1
    assert first["preempting"]
    [outcome], _ = train_with_wandb([config], tmp_path, "offline")
    records = read(tmp_path, folder)
    assert [values(row.item)["epoch"] for row in records["history"]] == [1, 2]
    assert not any("preempting" in kind for kind in records)
    assert outcome.state == State.DONE


FAILURES = [
    *("absent in import", "raise in import", "raise in init", "raise in log", "raise in finish"),
    *("hang in import", "hang in init", "hang in log", "hang in finish"),
]


def test_failing_or_hanging_wandb_does_not_affect_results(
    config: RunConfig,
    tmp_path: Path,
    fake_wandb: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Results have the same bytes, and only the end waits for wandb, for a limited time."""
    monkeypatch.setattr(wandb_process, "_PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(wandb_process, "_MIN_SECONDS", PATIENCE_SECONDS)
    configs = seeds(config, 2)
    without_wandb = {
        outcome.folder.name: outcome for outcome in run(configs, runs_dir=tmp_path / "calm")
    }
    for behaviour in FAILURES:
        monkeypatch.setenv("FAKE_WANDB", behaviour)
        messages: list[str] = []
        with WandbProcess(
            "offline", tmp_path / behaviour, sweep="tests", log=messages.append
        ) as tracking:
            outcomes = run(
                configs, runs_dir=tmp_path / behaviour, options=RunOptions(tracking=tracking)
            )
            trained = time.monotonic()
        waited = time.monotonic() - trained
        for outcome in outcomes:
            expected = without_wandb[outcome.folder.name]
            assert reproducible_files(RunFolder(outcome.folder)) == reproducible_files(
                RunFolder(expected.folder)
            ), behaviour
        assert 1 <= len(messages) <= 2, (behaviour, messages)
        assert all(line.startswith("wandb: ") and "src.sweep sync" in line for line in messages)
        assert "\n" not in "".join(messages)
        assert waited < 10 * PATIENCE_SECONDS, behaviour
        if behaviour.startswith("hang"):
            assert "did not answer" in messages[-1]


def test_missing_wandb_is_reported_only_if_requested(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_process.importlib.util, "find_spec", lambda name: None)
    [outcome], messages = train_with_wandb([config], tmp_path, None)
    assert (outcome.state, messages) == (State.DONE, [])
    _, [line] = train_with_wandb([config], tmp_path, "online")
    assert line.startswith("wandb: not installed")


def test_wandb_process_that_cannot_start_is_reported(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_to_start(*words: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    fake_subprocess = SimpleNamespace(
        Popen=fail_to_start, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL
    )
    monkeypatch.setattr(wandb_process, "subprocess", fake_subprocess)
    outcomes, [line] = train_with_wandb(seeds(config, 2), tmp_path, "offline")
    assert [outcome.state for outcome in outcomes] == [State.DONE] * 2
    assert "Resource temporarily unavailable" in line


def test_unwritable_wandb_folder_is_reported(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "file" / "below"))
    [outcome], [line] = train_with_wandb([config], tmp_path, "offline")
    assert outcome.state == State.DONE
    assert str(tmp_path / "file") in line
    assert "`python -m src.sweep sync` uploads it later" in line


def test_online_run_is_resumed_without_duplicate_epochs(
    config: RunConfig,
    tmp_path: Path,
    fake_wandb: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    folder = RunFolder.of(config, tmp_path)
    with pytest.raises(Stopped):
        train_with_wandb([config], tmp_path, None, stop=lambda: bool(folder.history()))
    [outcome], messages = train_with_wandb([config], tmp_path, None)
    assert not messages
    first, second = fake_wandb("init")
    assert first["mode"] == second["mode"] == "online"
    assert first["run"] == second["run"]
    assert second["resume"] == "allow"
    assert [one["step"] for one in fake_wandb("log")] == [1, 2], "no epoch may be logged twice"
    assert len(fake_wandb("preempting")) == 1
    assert [one["exit_code"] for one in fake_wandb("finish")] == [1, 0]
    metadata = files.read_json(outcome.folder / paths.WANDB) or {}
    assert (metadata["url"], metadata["uploaded"]) == ("https://wandb.example/run", "done")
    all_text = "".join(path.read_text() for path in outcome.folder.glob("*.json*"))
    assert "k" * 40 not in all_text


def test_online_without_key_falls_back_to_offline(
    config: RunConfig, tmp_path: Path, fake_wandb: Callable[..., list[dict[str, Any]]]
) -> None:
    _, [line] = train_with_wandb([config], tmp_path, "online")
    assert "there is no key" in line
    assert "noted offline" in line
    assert [one["mode"] for one in fake_wandb("init")] == ["offline"]


# sync


@pytest.fixture
def unsynced_runs(
    config: RunConfig,
    tmp_path: Path,
    fake_wandb: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Create two finished runs, a diverged one and a pending one, and set an API key."""
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    runs_dir = tmp_path / "runs"
    run([*seeds(config, 2), replace(config, learning_rate=1e30)], runs_dir=runs_dir)
    pending = replace(config, seed=9)
    RunFolder.of(pending, runs_dir).register(pending)
    return runs_dir


def test_sync_uploads_finished_runs_once(
    unsynced_runs: Path, fake_wandb: Callable[..., list[dict[str, Any]]], command: RunCommand
) -> None:
    sync = ("python", "-m", "src.sweep", "sync", "--runs", unsynced_runs, "--per_minute", 1000)
    done = command(*sync, "--dry_run")
    assert done.stdout.splitlines()[-1] == (
        "3 runs would be sent; 0 are there already, 1 not over yet"
    )
    assert not fake_wandb("init")
    done = command(*sync)
    assert done.stdout == "3 of 3 runs were sent; 0 are there already, 1 not over yet\n"
    assert {one["mode"] for one in fake_wandb("init")} == {"online"}
    assert {one["group"] for one in fake_wandb("init")} == {"runs cifar10net"}
    assert sorted(one["exit_code"] for one in fake_wandb("finish")) == [0, 0, 1]
    kinds = {one["summary"].get("failure_kind") for one in fake_wandb("finish")}
    assert kinds == {None, "non-finite loss"}
    for folder in (RunFolder(path) for path in unsynced_runs.glob("cifar10net/*")):
        wandb_id = (files.read_json(folder.path / paths.WANDB) or {}).get("id")
        rows = [one["row"] for one in fake_wandb("log") if one["run"] == wandb_id]
        assert rows == folder.history()
    done = command(*sync)
    assert done.stdout == "0 of 0 runs were sent; 3 are there already, 1 not over yet\n"
    assert len(fake_wandb("init")) == 3


def test_sync_limits_rate_and_retries(
    unsynced_runs: Path,
    fake_wandb: Callable[..., list[dict[str, Any]]],
    command: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_WANDB", "1 times raise in init")
    done = command("python", "-m", "src.sweep", "sync", "--runs", unsynced_runs, "--per_minute", 30)
    assert done.stdout.startswith("3 of 3 runs were sent")
    assert "HTTP 429: rate limit exceeded" in done.stderr
    times = [one["time"] for one in fake_wandb("init")]
    assert len(times) == 4
    assert times[1] - times[0] >= 5
    assert times[3] - times[2] >= 1.9


def test_sync_requires_online_mode_key_and_wandb(
    unsynced_runs: Path,
    fake_wandb: Callable[..., list[dict[str, Any]]],
    command: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sync = ("python", "-m", "src.sweep", "sync", "--runs", unsynced_runs)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert "WANDB_MODE 'offline': expected online" in command(*sync, check=2).stderr
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY")
    assert "error: wandb has no key" in command(*sync, check=2).stderr
    monkeypatch.setenv("FAKE_WANDB", "absent in import")
    assert "error: wandb is not installed" in command(*sync, check=2).stderr
    assert not fake_wandb("init")
