"""wandb hears of runs, and nothing that it does is felt by them."""

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
from src.common.errors import Stopped
from src.config import RunConfig
from src.data.dataset import Dataset
from src.run import Outcome, RunOptions, run
from src.runs.run_folder import RunFolder, State
from src.tracking import wandb_process
from src.tracking.wandb_process import WandbProcess
from tests.conftest import RunCommand
from tests.tracking import offline

FAKE = Path(__file__).parent / "fake"
PATIENCE_SECONDS = 1.0


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, small_dataset: Dataset) -> None:
    monkeypatch.setattr(data, "load", lambda path: small_dataset)
    for name in ("_PATIENCE_SECONDS", "_STOPPED_SECONDS"):  # wandb begins slowly beside other work
        monkeypatch.setattr(wandb_process, name, wandb_process._MOST_SECONDS)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Put the fake wandb in place of the real one; what it was told, of a kind."""
    log = tmp_path / "told.jsonl"
    monkeypatch.setenv("PYTHONPATH", str(FAKE))
    monkeypatch.setenv("FAKE_WANDB_LOG", str(log))

    def told(what: str) -> list[dict[str, Any]]:
        lines = log.read_text().splitlines() if log.exists() else []
        return [one for one in map(json.loads, lines) if one["what"] == what]

    return told


def mirrored(
    configs: Sequence[RunConfig], runs_dir: Path, mode: str | None, **more: Any
) -> tuple[list[Outcome], list[str]]:
    """Train with a mirror; the outcomes, and what it had to say."""
    said: list[str] = []
    with WandbProcess(mode, runs_dir, sweep="tests", log=said.append) as tracking:
        return run(configs, runs_dir, RunOptions(tracking=tracking, **more)), said


def seeds(config: RunConfig, count: int) -> list[RunConfig]:
    return [replace(config, seed=seed) for seed in range(count)]


def kept(folder: RunFolder) -> list[object]:
    """What must not depend on wandb."""
    rows = [{**row, "seconds": 0} for row in folder.history()]
    names = (paths.PREDICTIONS, paths.weights("best_val_acc"))
    return [rows, *((folder.path / name).read_bytes() for name in names)]


def read(runs_dir: Path, folder: RunFolder) -> dict[str, list[Any]]:
    """The records of the one offline run of a folder, by kind."""
    wandb_id = (files.read_json(folder.path / paths.WANDB) or {})["id"]
    [file] = runs_dir.glob(f"wandb/offline-run-*-{wandb_id}/*.wandb")
    found: dict[str, list[Any]] = {}
    for record in offline.records(file):
        kind = record.WhichOneof("record_type")
        found.setdefault(kind, []).append(getattr(record, kind))
    return found


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_offline_runs_hold_every_epoch(config: RunConfig, tmp_path: Path) -> None:
    outcomes, said = mirrored(seeds(config, 2), tmp_path, "offline")
    assert not said
    for outcome in outcomes:
        folder = RunFolder(outcome.folder)
        records = read(tmp_path, folder)
        [about] = records["run"][:1]
        assert about.project == "cifar10-sweep"
        assert (about.run_group, about.job_type) == ("tests cifar10net", "cifar10net")
        noted = values(about.config.update)
        assert noted["learning_rate"] == 0.001
        assert noted["seed"] == outcome.config.seed
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


def test_without_a_key_it_is_offline_and_disabled_is_nothing(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [outcome], said = mirrored([config], tmp_path / "a", None)
    assert not said
    assert len(read(tmp_path / "a", RunFolder(outcome.folder))["history"]) == 2
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for place, asked in (("b", None), ("c", "disabled")):
        [outcome], said = mirrored([config], tmp_path / place, asked)
        assert not said
        assert [path.name for path in (tmp_path / place).iterdir()] == ["cifar10net"]
        assert not (outcome.folder / paths.WANDB).exists()


def test_a_run_that_goes_on_is_one_run_offline(config: RunConfig, tmp_path: Path) -> None:
    folder = RunFolder.of(config, tmp_path)
    with pytest.raises(Stopped):
        mirrored([config], tmp_path, "offline", stop=lambda: bool(folder.history()))
    first = read(tmp_path, folder)
    assert len(first["history"]) == len(folder.history()) == 1
    assert first["preempting"]
    [outcome], _ = mirrored([config], tmp_path, "offline")
    records = read(tmp_path, folder)
    assert [values(row.item)["epoch"] for row in records["history"]] == [1, 2]
    assert not any("preempting" in kind for kind in records)
    assert outcome.state == State.DONE


BROKEN = [
    *("absent in import", "raise in import", "raise in init", "raise in log", "raise in finish"),
    *("hang in import", "hang in init", "hang in log", "hang in finish"),
]


def test_a_broken_wandb_is_not_felt(
    config: RunConfig,
    tmp_path: Path,
    fake: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Results are the same bytes; training waits for nothing, the end at most for our patience."""
    monkeypatch.setattr(wandb_process, "_PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(wandb_process, "_LEAST_SECONDS", PATIENCE_SECONDS)
    configs = seeds(config, 2)
    calm = {outcome.folder.name: outcome for outcome in run(configs, runs_dir=tmp_path / "calm")}
    for how in BROKEN:
        monkeypatch.setenv("FAKE_WANDB", how)
        said: list[str] = []
        with WandbProcess("offline", tmp_path / how, sweep="tests", log=said.append) as tracking:
            outcomes = run(configs, runs_dir=tmp_path / how, options=RunOptions(tracking=tracking))
            trained = time.monotonic()
        waited = time.monotonic() - trained
        for outcome in outcomes:
            beside = calm[outcome.folder.name]
            assert kept(RunFolder(outcome.folder)) == kept(RunFolder(beside.folder)), how
        assert 1 <= len(said) <= 2, (how, said)
        assert all(line.startswith("wandb: ") and "src.sweep sync" in line for line in said)
        assert "\n" not in "".join(said)
        assert waited < 10 * PATIENCE_SECONDS, how
        if how.startswith("hang"):
            assert "gave no answer" in said[-1]


def test_what_is_not_installed_is_said_where_it_was_asked_for(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_process.importlib.util, "find_spec", lambda name: None)
    [outcome], said = mirrored([config], tmp_path, None)
    assert (outcome.state, said) == (State.DONE, [])
    _, [line] = mirrored([config], tmp_path, "online")
    assert line.startswith("wandb: not installed")


def test_a_process_that_cannot_be_started(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*words: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    fake = SimpleNamespace(Popen=none_left, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(wandb_process, "subprocess", fake)
    outcomes, [line] = mirrored(seeds(config, 2), tmp_path, "offline")
    assert [outcome.state for outcome in outcomes] == [State.DONE] * 2
    assert "Resource temporarily unavailable" in line


def test_a_folder_that_cannot_be_written(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "file" / "below"))
    [outcome], [line] = mirrored([config], tmp_path, "offline")
    assert outcome.state == State.DONE
    assert str(tmp_path / "file") in line
    assert "`python -m src.sweep sync` uploads it later" in line


def test_online_goes_on_where_it_was_and_says_what_is_there(
    config: RunConfig,
    tmp_path: Path,
    fake: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    folder = RunFolder.of(config, tmp_path)
    with pytest.raises(Stopped):
        mirrored([config], tmp_path, None, stop=lambda: bool(folder.history()))
    [outcome], said = mirrored([config], tmp_path, None)
    assert not said
    first, second = fake("init")
    assert first["mode"] == second["mode"] == "online"
    assert first["run"] == second["run"]
    assert second["resume"] == "allow"
    assert [one["step"] for one in fake("log")] == [1, 2], "no epoch is told twice"
    assert len(fake("preempting")) == 1
    assert [one["exit_code"] for one in fake("finish")] == [1, 0]
    noted = files.read_json(outcome.folder / paths.WANDB) or {}
    assert (noted["url"], noted["uploaded"]) == ("https://wandb.example/run", "done")
    everything = "".join(path.read_text() for path in outcome.folder.glob("*.json*"))
    assert "k" * 40 not in everything


def test_online_without_a_key_is_offline(
    config: RunConfig, tmp_path: Path, fake: Callable[..., list[dict[str, Any]]]
) -> None:
    _, [line] = mirrored([config], tmp_path, "online")
    assert "there is no key" in line
    assert "noted offline" in line
    assert [one["mode"] for one in fake("init")] == ["offline"]


# sync


@pytest.fixture
def silent(
    config: RunConfig,
    tmp_path: Path,
    fake: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Two runs that are done, one that diverged and one that was never begun; a key."""
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    runs_dir = tmp_path / "runs"
    run([*seeds(config, 2), replace(config, learning_rate=1e30)], runs_dir=runs_dir)
    pending = replace(config, seed=9)
    RunFolder.of(pending, runs_dir).register(pending)
    return runs_dir


def test_sync_sends_what_has_ended_once(
    silent: Path, fake: Callable[..., list[dict[str, Any]]], command: RunCommand
) -> None:
    sync = ("python", "-m", "src.sweep", "sync", "--runs", silent, "--per_minute", 1000)
    done = command(*sync, "--dry_run")
    assert done.stdout.splitlines()[-1] == (
        "3 runs would be sent; 0 are there already, 1 not over yet"
    )
    assert not fake("init")
    done = command(*sync)
    assert done.stdout == "3 of 3 runs were sent; 0 are there already, 1 not over yet\n"
    assert {one["mode"] for one in fake("init")} == {"online"}
    assert {one["group"] for one in fake("init")} == {"runs cifar10net"}
    assert sorted(one["exit_code"] for one in fake("finish")) == [0, 0, 1]
    told = {one["summary"].get("failure_kind") for one in fake("finish")}
    assert told == {None, "non-finite loss"}
    for folder in (RunFolder(path) for path in silent.glob("cifar10net/*")):
        wandb_id = (files.read_json(folder.path / paths.WANDB) or {}).get("id")
        rows = [one["row"] for one in fake("log") if one["run"] == wandb_id]
        assert rows == folder.history()
    done = command(*sync)
    assert done.stdout == "0 of 0 runs were sent; 3 are there already, 1 not over yet\n"
    assert len(fake("init")) == 3


def test_sync_keeps_to_a_rate_and_is_patient(
    silent: Path,
    fake: Callable[..., list[dict[str, Any]]],
    command: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_WANDB", "1 times raise in init")
    done = command("python", "-m", "src.sweep", "sync", "--runs", silent, "--per_minute", 30)
    assert done.stdout.startswith("3 of 3 runs were sent")
    assert "HTTP 429: rate limit exceeded" in done.stderr
    times = [one["time"] for one in fake("init")]
    assert len(times) == 4
    assert times[1] - times[0] >= 5
    assert times[3] - times[2] >= 1.9


def test_sync_refuses_what_it_cannot_do(
    silent: Path,
    fake: Callable[..., list[dict[str, Any]]],
    command: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sync = ("python", "-m", "src.sweep", "sync", "--runs", silent)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert "WANDB_MODE 'offline': expected online" in command(*sync, check=2).stderr
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY")
    assert "error: wandb has no key" in command(*sync, check=2).stderr
    monkeypatch.setenv("FAKE_WANDB", "absent in import")
    assert "error: wandb is not installed" in command(*sync, check=2).stderr
    assert not fake("init")
