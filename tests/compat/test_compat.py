"""Compatibility: files of an earlier commit are read and continued; both versions cooperate."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from src import results
from src.common.paths import ROOT
from src.config import RunConfig
from src.run import RunOptions, run
from src.sweep import sets
from tests.compat.internals import Stopped, resumed_state
from tests.conftest import RunCommand, skip_or_fail, wait_until

FOLDER = Path(__file__).parent
FIXTURE = FOLDER / "fixture"
EARLIER = "bb2b8bc"  # the commit that wrote the fixture
STATES = {"done": 6, "pruned": 1, "running": 0, "interrupted": 2, "failed": 2, "pending": 0}
TIMES = {"train_seconds", "images_per_second", "attempt"}
COMPUTE_FORMAT = ("precision", "memory_format", "convolution")
DIGEST_BYTES = len(b"sha256 ") + 32  # at the end of a resume checkpoint
SETTINGS = json.loads(next(FIXTURE.glob("runs/*/*/config.json")).read_text())


@pytest.fixture
def earlier_files(tmp_path: Path) -> Path:
    """Return a copy of the files written by the earlier code."""
    return shutil.copytree(FIXTURE, tmp_path / "then")


@pytest.fixture(scope="module")
def earlier_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Extract the code of the commit that wrote the fixture."""
    folder = tmp_path_factory.mktemp("earlier")
    words = ("git", "archive", EARLIER, "src")
    try:
        archive = subprocess.run(words, cwd=ROOT, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        skip_or_fail(f"needs git and commit {EARLIER}: a clone with its whole history")
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    (folder / "commit.txt").write_text(EARLIER)  # as in a submission's copy of the code
    return folder


@pytest.fixture(scope="module")
def later_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the current code and add a setting, as later code might."""
    folder = tmp_path_factory.mktemp("later")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    config, place = folder / "src" / "config.py", "    num_epochs: int = option("
    text = config.read_text()
    assert text.count(place) == 1
    field = '    zest: float = option(0.5, "a setting that was added", minimum=0)\n'
    config.write_text(text.replace(place, field + place))
    return folder


def read(path: Path) -> dict[str, Any]:
    """Read a JSON file."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def folders(files: Path, holding: str = "config.json") -> dict[str, Path]:
    """Return the run folders that contain a certain file, by id."""
    found = sorted(path.parent for path in files.glob(f"runs/*/*/{holding}"))
    return {path.name.rpartition("-")[2]: path for path in found}


def config_of(folder: Path) -> RunConfig:
    return RunConfig(**read(folder / "config.json"))


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Return the modification time and content of every file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def steps(count: int) -> Callable[[], bool]:
    """Return a stop condition that is true after `count` calls."""
    remaining = iter(range(count))
    return lambda: next(remaining, None) is None


def checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a resume checkpoint."""
    whole = io.BytesIO(path.read_bytes()[:-DIGEST_BYTES])
    state: dict[str, Any] = torch.load(whole, weights_only=True)
    return state


def differences(ours: Any, theirs: Any, where: str = "") -> Iterator[str]:
    """Yield bitwise differences of two states, ignoring keys that only `ours` has."""
    if isinstance(theirs, torch.Tensor):
        if ours.dtype != theirs.dtype or not torch.equal(ours, theirs):
            yield where
    elif isinstance(theirs, dict):
        for name, value in theirs.items():
            if name not in ours:
                yield f"{where}/{name}: missing"
            else:
                yield from differences(ours[name], value, f"{where}/{name}")
    elif isinstance(theirs, list | tuple):
        if len(ours) != len(theirs):
            yield f"{where}: {len(ours)} for {len(theirs)}"
        for number, (our_item, other) in enumerate(zip(ours, theirs, strict=False)):
            yield from differences(our_item, other, f"{where}/{number}")
    elif ours != theirs:
        yield f"{where}: {ours!r} for {theirs!r}"


def columns(text: str, names: list[str]) -> list[list[str]]:
    """Return the text of some columns of a CSV."""
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert set(names) <= set(rows[0])
    return [[row[name] for name in names] for row in rows]


def require_same_table(ours: str, theirs: str) -> None:
    """Check that all columns of `theirs` are in `ours`, with the same text."""
    header = next(csv.reader(io.StringIO(theirs)))
    assert next(csv.reader(io.StringIO(ours)))[: len(header)] == header
    assert columns(ours, header) == columns(theirs, header)


# names and ids


def test_run_ids_and_cell_names_are_unchanged() -> None:
    run_folders = folders(FIXTURE)
    assert len(run_folders) == sum(STATES.values())
    for run_id, folder in run_folders.items():
        config = config_of(folder)
        assert folder.name == f"{config.name}-{config.id}"
        cells = sorted(folder.glob("cells/*.json"))
        configs = [RunConfig(**read(cell)) for cell in cells]
        assert [cell.stem for cell in cells] == sorted(one.cell for one in configs)
        assert {one.id for one in configs} == {run_id}
    assert sorted(len(list(folder.glob("cells/*"))) for folder in run_folders.values())[-2:] == [
        1,
        2,
    ]


def test_cell_name_of_defaults_is_unchanged() -> None:
    """All settings of the earlier commit count in the name of a cell."""
    assert RunConfig().cell.rpartition("-")[2] == "8a9c235933"


def test_only_settings_with_effect_change_run_id() -> None:
    first, second = yaml.safe_load((FIXTURE / "grid.yaml").read_text()).pop("label_smoothing")
    plain = [one for one in map(config_of, folders(FIXTURE).values()) if one.seed == 0]
    submitted = [one for one in plain if one.keep_checkpoints == "best"]
    assert {one.label_smoothing for one in submitted} == {first, second}
    assert replace(submitted[0], t_max=77).id == submitted[0].id
    assert replace(submitted[0], t_max=77).cell != submitted[0].cell


_NAMES = """
import json, sys
from pathlib import Path
from src.config import RunConfig
for path in sorted(Path(sys.argv[1]).glob("runs/*/*/cells/*.json")):
    found = json.loads(path.read_text())
    at_default, elsewhere = RunConfig(**found), RunConfig(**found, zest=0.25)
    assert at_default.zest == 0.5
    assert path.stem == at_default.cell != elsewhere.cell, path
    assert path.parent.parent.name.endswith(at_default.id), path
    assert at_default.id != elsewhere.id, path
"""


def test_new_setting_does_not_change_names_at_default(
    earlier_files: Path, later_code: Path, command: RunCommand
) -> None:
    """A new setting does not change names of runs, cells and searches at its default value."""
    command("python", "-c", _NAMES, earlier_files, cwd=later_code)
    before = contents(earlier_files / "runs")
    done = list(folders(earlier_files, "result.json").values())
    cells = [RunConfig(**read(cell)) for path in done for cell in path.glob("cells/*.json")]
    sets.write([cells], earlier_files / "cells")
    words = ("--runs", earlier_files / "runs", "--wandb", "disabled", "-q")
    work = command(
        "python",
        "-m",
        "src.sweep",
        "work",
        "--sets",
        earlier_files / "cells",
        *words,
        cwd=later_code,
    )
    assert len(work.stdout.splitlines()) == len(cells) == 7
    search = (
        "python",
        "-m",
        "src.tune",
        "search",
        "--config",
        earlier_files / "small.yaml",
        "--trials",
        2,
    )
    found = command(*search, *words, "--out", earlier_files / "out", "--json", cwd=later_code)
    assert json.loads(found.stdout)["trials"]["complete"] == 2
    [journal] = earlier_files.glob(
        "runs/searches/*.log"
    )  # a journal records every process that opens it
    assert journal.read_bytes().startswith(before.pop(journal)[1])
    assert contents(earlier_files / "runs").items() >= before.items()
    assert len(contents(earlier_files / "runs")) == len(before) + 1


# reading earlier files


def test_aggregate_reproduces_earlier_table(earlier_files: Path, command: RunCommand) -> None:
    path = earlier_files / "again.csv"
    words = ("--runs", earlier_files / "runs", "--csv", path)
    output = command("python", "-m", "src.report", "aggregate", *words)
    assert "not in it: 2 interrupted, 2 failed" in output.stderr
    ours, theirs = path.read_text(), (FIXTURE / "clean_runs.csv").read_text()
    require_same_table(ours, theirs)
    if ours.partition("\n")[0] == theirs.partition("\n")[0]:
        assert ours == theirs
    assert results.load(earlier_files / "runs").to_csv(index=False, lineterminator="\n") == ours


def test_status_counts_earlier_runs(earlier_files: Path, command: RunCommand) -> None:
    where = ("--runs", earlier_files / "runs", "--json")
    report = json.loads(command("python", "-m", "src.sweep", "status", "--all", *where).stdout)
    assert report["all"]["trainings"].items() >= STATES.items()
    assert report["all"]["cells"].items() >= {**STATES, "done": 7}.items()
    assert report["outside"] == 0


def test_report_commands_read_earlier_runs(earlier_files: Path, command: RunCommand) -> None:
    report = ("python", "-m", "src.report")
    runs = ("--runs", earlier_files / "runs")
    table = (*runs, "--csv", earlier_files / "clean_runs.csv", "-q")
    found = json.loads(command(*report, "top-k", "table", *table, "--json").stdout)
    with (FIXTURE / "clean_runs.csv").open(newline="") as file:
        best = max(csv.DictReader(file), key=lambda row: float(row["best_val_accuracy"]))
    assert len(found) == 5
    assert str(found[0]["best_val_accuracy"]) == best["best_val_accuracy"]
    chosen = next(iter(folders(FIXTURE, "best_val_acc.pt")))
    assert json.loads(command(*report, "classes", *runs, "--run", chosen, "--json").stdout)


def test_report_page_shows_earlier_runs(earlier_files: Path) -> None:
    """Write the page with --watch, which writes no charts."""
    words = (
        "--runs",
        earlier_files / "runs",
        "--csv",
        earlier_files / "clean_runs.csv",
        "--out",
        earlier_files / "report",
    )
    page = earlier_files / "report" / "report.html"
    watching = subprocess.Popen(
        [sys.executable, "-m", "src.report", "page", "--watch", "600", "-q", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: page.exists() or watching.poll() is not None)
    finally:
        watching.kill()
        watching.wait()
    text = page.read_text()
    for run_id in (*folders(FIXTURE, "result.json"), *folders(FIXTURE, "pruned.json")):
        assert run_id in text


def test_logs_and_evaluate_read_earlier_runs(earlier_files: Path, command: RunCommand) -> None:
    [broken] = [
        p for p in folders(earlier_files, "failure.json").values() if config_of(p).seed == 2
    ]
    words = (broken.name, "--runs", earlier_files / "runs")
    output = command("python", "-m", "src.sweep", "logs", *words).stdout
    assert "RuntimeError: out of luck" in output
    trained = next(iter(folders(earlier_files, "best_val_acc.pt").values()))
    command("python", "-m", "src.evaluate", "--model", trained)


# continuing earlier runs


def test_finished_runs_are_not_trained_again(earlier_files: Path) -> None:
    before = contents(earlier_files / "runs")
    done = folders(earlier_files, "result.json")
    cells = [RunConfig(**read(cell)) for path in done.values() for cell in path.glob("cells/*")]
    outcomes = run(cells, runs_dir=earlier_files / "runs")
    assert [outcome.state for outcome in outcomes] == ["done"] * 7
    assert all(outcome.result == read(outcome.folder / "result.json") for outcome in outcomes)
    assert contents(earlier_files / "runs") == before


def test_pruned_run_is_kept_with_pruner_and_finished_without(
    earlier_files: Path, command: RunCommand
) -> None:
    [(run_id, folder)] = folders(earlier_files, "pruned.json").items()
    before = contents(folder)
    words = (
        "--sets",
        earlier_files / "sets",
        "--runs",
        earlier_files / "runs",
        "--wandb",
        "disabled",
        "-q",
    )
    output = command("python", "-m", "src.sweep", "work", *words, "--prune").stdout
    assert output.startswith("pruned")
    assert contents(folder) == before
    [outcome] = run([config_of(folder)], runs_dir=earlier_files / "runs")
    assert (outcome.state, outcome.folder) == ("done", folder)
    assert (outcome.result or {})["run_id"] == run_id
    assert (outcome.result or {})["epochs_run"] == 3
    assert not (folder / "pruned.json").exists()


def test_diverged_run_is_given_up_and_failed_run_retried(earlier_files: Path) -> None:
    failed = folders(earlier_files, "failure.json")
    outcomes = run([config_of(path) for path in failed.values()], runs_dir=earlier_files / "runs")
    for outcome in outcomes:
        diverged = outcome.config.learning_rate > 1
        assert outcome.state == ("failed" if diverged else "done")
        assert len(list(outcome.folder.glob("attempts/*.json"))) == (1 if diverged else 2)


def test_resume_checkpoint_is_loaded_bitwise(earlier_files: Path) -> None:
    interrupted = folders(earlier_files, "resume.pt")
    assert len(interrupted) == 2
    for run_id, folder in interrupted.items():
        names = ["resume.pt"]
        if (folder / "resume.before.pt").exists():
            names.append("resume.before.pt")
        for name in names:
            saved = checkpoint(folder / name)
            assert saved["id"] == run_id
            assert saved["step"] > 0
            state = resumed_state(config_of(folder), folder)
            for group in saved["learner"]["optimizer"]["param_groups"]:
                del group["lr"]  # set by every step
            del saved["device"]  # that of this machine
            assert list(differences(state, saved)) == []
            (folder / name).write_bytes(b"damaged")  # then the previous checkpoint is used
        assert resumed_state(config_of(folder), folder)["step"] == 0


def test_interrupted_run_gives_same_result_with_further_stops(
    earlier_files: Path, tmp_path: Path
) -> None:
    """Runs begun by the earlier code are continued, with and without further stops."""
    other = shutil.copytree(FIXTURE, tmp_path / "other")
    for run_id, folder in folders(earlier_files, "resume.pt").items():
        earlier_history = folder / "history.jsonl"
        rows = earlier_history.read_text() if earlier_history.exists() else ""
        config = replace(config_of(folder), keep_checkpoints="all")
        [whole] = run([config], runs_dir=earlier_files / "runs")
        for _ in range(2):
            with pytest.raises(Stopped):
                run([config], runs_dir=other / "runs", options=RunOptions(stop=steps(5)))
        [parts] = run([config], runs_dir=other / "runs")
        assert parts.folder.name == whole.folder.name == folder.name
        assert whole.result
        assert parts.result
        assert (whole.result["run_id"], whole.result["attempt"]) == (run_id, 2)
        assert (parts.result["run_id"], parts.result["attempt"]) == (run_id, 4)
        assert [whole.result[name] for name in COMPUTE_FORMAT] == [
            getattr(config, name) for name in COMPUTE_FORMAT
        ]
        assert parts.result.keys() == whole.result.keys()
        for name, value in whole.result.items():
            assert name in TIMES or parts.result[name] == value, name
        for outcome in (whole, parts):
            history = (outcome.folder / "history.jsonl").read_text()
            assert history.startswith(rows)
            assert len(history.splitlines()) == 3
            assert not list(outcome.folder.glob("resume*"))
        for name in ("best_val_acc.pt", "best_val_loss.pt", "terminal.pt"):
            ours, theirs = (
                torch.load(outcome.folder / name, weights_only=True) for outcome in (parts, whole)
            )
            assert ours.keys() == theirs.keys()
            assert list(differences(ours, theirs)) == []
        ours, theirs = (np.load(outcome.folder / "predictions.npz") for outcome in (parts, whole))
        assert ours.files == theirs.files
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs.files)


def test_search_continues_from_journal(earlier_files: Path, command: RunCommand) -> None:
    [journal] = earlier_files.glob("runs/searches/*.log")
    before, runs = journal.read_bytes(), folders(earlier_files)
    words = (
        "--config",
        earlier_files / "small.yaml",
        "--trials",
        3,
        "--runs",
        earlier_files / "runs",
        "--json",
    )
    more = ("--out", earlier_files / "out", "--wandb", "disabled")
    output = command("python", "-m", "src.tune", "search", *words, *more)
    found = json.loads(output.stdout)
    assert found["study"] == journal.stem
    assert found["trials"] == {"complete": 3, "pruned": 0, "failed": 0, "running": 0}
    assert "after 2 of 3 trials" in output.stderr
    assert "trial 2 (3 of 3)" in output.stderr
    assert "trial 1 (" not in output.stderr
    assert journal.read_bytes().startswith(before)
    assert list(earlier_files.glob("runs/searches/*.log")) == [journal]
    assert len(folders(earlier_files)) == len(runs) + 1


def test_stored_learning_rate_is_reused(earlier_files: Path, command: RunCommand) -> None:
    [path] = earlier_files.glob("runs/*/learning_rate-*.json")
    before = contents(earlier_files / "runs")
    words = (
        "--config",
        earlier_files / "found.yaml",
        "--learning-rate",
        "find",
        "--runs",
        earlier_files / "runs",
    )
    output = command("python", "src/main.py", *words, "--wandb", "disabled")
    assert output.stdout.startswith("done")
    assert f"_lr_{read(path)['learning_rate']}_" in output.stdout
    assert contents(earlier_files / "runs") == before


def test_earlier_submission_is_recognized(earlier_files: Path, command: RunCommand) -> None:
    """Its runs are not submitted again, and the next submission gets the next number."""
    record = read(earlier_files / "runs" / "submissions" / "1" / "submission.json")
    submit = ("python", "-m", "src.sweep", "submit", "--executor", "local", "--dry-run", "--json")
    runs = ("--runs", earlier_files / "runs")
    report = json.loads(command(*submit, "--grid", earlier_files / "grid.yaml", *runs).stdout)
    assert report["submission"] is None
    assert [(group["runs"], group["done"]) for group in report["groups"]] == [(2, 2)]
    assert set(record["arrays"][0]["runs"]) <= set(folders(earlier_files, "result.json"))
    more = {**yaml.safe_load((earlier_files / "grid.yaml").read_text()), "seed": [0, 9]}
    (earlier_files / "more.yaml").write_text(yaml.safe_dump(more))
    report = json.loads(command(*submit, "--grid", earlier_files / "more.yaml", *runs).stdout)
    assert report["submission"] == record["submission"] + 1 == 2
    assert [(group["runs"], group["done"]) for group in report["groups"]] == [(4, 2)]
    work = ("--sets", earlier_files / "runs" / "submissions" / "1" / "sets", *runs)
    done = command("python", "-m", "src.sweep", "work", "1", *work, "--wandb", "disabled").stdout
    assert [line.split()[0] for line in done.splitlines()] == ["done", "done"]


def test_wandb_run_is_synced_under_its_stored_id(
    earlier_files: Path, command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(run_id, folder)] = folders(earlier_files, "wandb.json").items()
    stored = read(folder / "wandb.json")
    sync, runs = ("python", "-m", "src.sweep", "sync"), ("--runs", earlier_files / "runs")
    output = command(*sync, *runs, "--dry-run").stdout
    assert "9 runs would be sent; 0 are there already, 2 not over yet" in output
    log = earlier_files / "told.jsonl"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("FAKE_WANDB_LOG", str(log))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "tracking" / "fake"))
    command(*sync, run_id, *runs)
    assert {json.loads(line)["run"] for line in log.read_text().splitlines()} == {stored["id"]}
    assert read(folder / "wandb.json").items() >= {**stored, "uploaded": "done"}.items()
    output = command(*sync, *runs, "--dry-run").stdout
    assert "8 runs would be sent; 1 are there already, 2 not over yet" in output


# both versions in one sweep


@pytest.fixture
def tiny() -> list[RunConfig]:
    """Return six runs of half a second each."""
    plain = {**SETTINGS, "keep_checkpoints": "best", "optimizer": "adamw", "learning_rate": 0.003}
    config = RunConfig(**{**plain, "num_epochs": 5, "max_images": 600, "batch_size": 20})
    return [replace(config, seed=100 + seed) for seed in range(6)]


def test_workers_of_both_versions_share_a_sweep(
    earlier_code: Path, tiny: list[RunConfig], tmp_path: Path, command: RunCommand
) -> None:
    """Each run is trained once, and both versions write the same table."""
    sets.write([tiny], tmp_path / "sets")
    for attempt in range(3):  # one worker may start too late to get a run
        runs = tmp_path / f"runs{attempt}"
        words = ("--sets", tmp_path / "sets", "--runs", runs, "--wandb", "disabled", "-q")

        def work(code: Path, words: tuple[object, ...] = words) -> str:
            return command("python", "-m", "src.sweep", "work", *words, cwd=code).stdout

        with ThreadPoolExecutor(2) as both:
            output = list(both.map(work, (ROOT, earlier_code)))
        for one in output:
            assert [line.split()[0] for line in one.splitlines()] == ["done"] * 6
        records = [read(path) for path in runs.glob("*/*/attempts/*.json")]
        assert sum(record["ended"] == "done" for record in records) == 6
        assert {record["ended"] for record in records} <= {"done", "unneeded"}
        assert len(list(runs.glob("*/*/cells/*.json"))) == 6
        commits = [read(path)["git_commit"] for path in runs.glob("*/*/result.json")]
        assert len(commits) == 6
        if 0 < commits.count(EARLIER) < 6:
            break
    else:
        pytest.fail("in three attempts one worker trained all runs")
    tables = []
    for name, code in (("ours", ROOT), ("theirs", earlier_code)):
        table = ("--runs", runs, "--csv", tmp_path / f"{name}.csv")
        command("python", "-m", "src.report", "aggregate", *table, cwd=code)
        tables.append((tmp_path / f"{name}.csv").read_text())
    require_same_table(*tables)


def test_run_is_continued_alternately_by_both_versions(
    earlier_code: Path, tiny: list[RunConfig], tmp_path: Path, command: RunCommand
) -> None:
    """A run is continued alternately by both versions."""
    config = replace(tiny[0], num_epochs=3, max_images=100)
    (tmp_path / "config.json").write_text(json.dumps(config.stored()))
    runs, states = tmp_path / "runs", []
    for code, count in ((earlier_code, 16), (ROOT, 16), (earlier_code, 10**6)):
        environment = {**os.environ, "PYTHONPATH": str(code)}
        words = ("python", FOLDER / "train_steps.py", tmp_path / "config.json", runs, count)
        last = count == 10**6
        command(*words, cwd=code, env=environment, check=0 if last else 3)
        if not last:
            [path] = runs.glob("*/*/resume.pt")
            state = checkpoint(path)
            states.append((state["epoch"], state["step"], state["rows"]))
    assert (0, 0) < states[0][:2] < states[1][:2] < (3, 0)
    assert states[1][2][: len(states[0][2])] == states[0][2]
    [path] = runs.glob("*/*/result.json")
    rows = [json.loads(line) for line in path.with_name("history.jsonl").read_text().splitlines()]
    assert rows[: len(states[1][2])] == states[1][2]
    assert (read(path)["attempt"], read(path)["git_commit"]) == (3, EARLIER)
