"""Files of earlier code are read, and gone on with, by this one; and both work side by side."""

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
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from src import data, results
from src.common.paths import ROOT
from src.config import RunConfig
from src.run import RunOptions, run
from src.sweep import sets
from tests.compat.internals import Stopped, opened
from tests.conftest import RunCommand, skip_or_fail, wait_until

HERE = Path(__file__).parent
FIXTURE = HERE / "fixture"
EARLIER = "bb2b8bc"  # that wrote it
STATES = {"done": 6, "pruned": 1, "running": 0, "interrupted": 2, "failed": 2, "pending": 0}
TIMES = {"train_seconds", "images_per_second", "attempt"}
ARITHMETIC = ("precision", "memory_format", "convolution")
DIGEST_BYTES = len(b"sha256 ") + 32  # at the end of a resume checkpoint
SETTINGS = json.loads(next(FIXTURE.glob("runs/*/*/config.json")).read_text())


@pytest.fixture(autouse=True, scope="module")
def _generated_once() -> Iterator[None]:
    """The stand-in takes a second to make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", cache(data.load))
        yield


@pytest.fixture
def then(tmp_path: Path) -> Path:
    """A copy of what the earlier code has written."""
    return shutil.copytree(FIXTURE, tmp_path / "then")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code that wrote the fixture."""
    folder = tmp_path_factory.mktemp("earlier")
    words = ("git", "archive", EARLIER, "src")
    try:
        archive = subprocess.run(words, cwd=ROOT, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        skip_or_fail(f"needs git and commit {EARLIER}: a clone with its whole history")
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    (folder / "commit.txt").write_text(EARLIER)  # as a submission's copy of the code tells it
    return folder


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This code with a setting more, as some later code will have it."""
    folder = tmp_path_factory.mktemp("later")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    config, place = folder / "src" / "config.py", "    num_epochs: int = option("
    text = config.read_text()
    assert text.count(place) == 1
    field = '    zest: float = option(0.5, "a setting that was added", minimum=0)\n'
    config.write_text(text.replace(place, field + place))
    return folder


def read(path: Path) -> dict[str, Any]:
    """A JSON file."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def folders(files: Path, holding: str = "config.json") -> dict[str, Path]:
    """Run folders with a certain file in them, by id."""
    found = sorted(path.parent for path in files.glob(f"runs/*/*/{holding}"))
    return {path.name.rpartition("-")[2]: path for path in found}


def config_of(folder: Path) -> RunConfig:
    return RunConfig(**read(folder / "config.json"))


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file, and when it was written."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def steps(count: int) -> Callable[[], bool]:
    """Asks for the end after so many units of work."""
    left = iter(range(count))
    return lambda: next(left, None) is None


def checkpoint(path: Path) -> dict[str, Any]:
    """What is in a resume checkpoint."""
    whole = io.BytesIO(path.read_bytes()[:-DIGEST_BYTES])
    state: dict[str, Any] = torch.load(whole, weights_only=True)
    return state


def differences(ours: Any, theirs: Any, where: str = "") -> Iterator[str]:
    """Where two states are not the same bits; what `ours` alone has is no difference."""
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
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
            yield from differences(mine, other, f"{where}/{number}")
    elif ours != theirs:
        yield f"{where}: {ours!r} for {theirs!r}"


def columns(text: str, wanted: list[str]) -> list[list[str]]:
    """The cells of a CSV in some of its columns, as they are written."""
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert set(wanted) <= set(rows[0])
    return [[row[name] for name in wanted] for row in rows]


def require_same_table(ours: str, theirs: str) -> None:
    """Every column of theirs is in ours with the same text; ours may have further ones."""
    header = next(csv.reader(io.StringIO(theirs)))
    assert next(csv.reader(io.StringIO(ours)))[: len(header)] == header
    assert columns(ours, header) == columns(theirs, header)


# names


def test_ids_and_cells_are_called_what_they_were() -> None:
    there = folders(FIXTURE)
    assert len(there) == sum(STATES.values())
    for run_id, folder in there.items():
        config = config_of(folder)
        assert folder.name == f"{config.name}-{config.id}"
        cells = sorted(folder.glob("cells/*.json"))
        configs = [RunConfig(**read(cell)) for cell in cells]
        assert [cell.stem for cell in cells] == sorted(one.cell for one in configs)
        assert {one.id for one in configs} == {run_id}
    assert sorted(len(list(folder.glob("cells/*"))) for folder in there.values())[-2:] == [1, 2]


def test_the_cell_of_the_defaults_is_called_what_it_was() -> None:
    """Every setting of then counts in it."""
    assert RunConfig().cell.rpartition("-")[2] == "8a9c235933"


def test_runs_that_differ_in_label_smoothing_are_two_and_idle_settings_make_none() -> None:
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


def test_a_setting_that_is_added_leaves_all_names_alone(
    then: Path, later: Path, command: RunCommand
) -> None:
    """Of runs, cells and searches; where it is not at its default it counts in all of them."""
    command("python", "-c", _NAMES, then, cwd=later)
    before = contents(then / "runs")
    done = list(folders(then, "result.json").values())
    cells = [RunConfig(**read(cell)) for path in done for cell in path.glob("cells/*.json")]
    sets.write([cells], then / "cells")
    words = ("--runs", then / "runs", "--wandb", "disabled", "-q")
    work = command("python", "-m", "src.sweep", "work", "--sets", then / "cells", *words, cwd=later)
    assert len(work.stdout.splitlines()) == len(cells) == 7
    search = ("python", "-m", "src.tune", "search", "--config", then / "small.yaml", "--trials", 2)
    found = command(*search, *words, "--out", then / "out", "--json", cwd=later)
    assert json.loads(found.stdout)["trials"]["complete"] == 2
    [journal] = then.glob("runs/searches/*.log")  # which tells of everybody who opens it
    assert journal.read_bytes().startswith(before.pop(journal)[1])
    assert contents(then / "runs").items() >= before.items()
    assert len(contents(then / "runs")) == len(before) + 1


# what is read


def test_the_table_is_the_one_that_was_written(then: Path, command: RunCommand) -> None:
    path = then / "again.csv"
    words = ("--runs", then / "runs", "--csv", path)
    said = command("python", "-m", "src.report", "aggregate", *words)
    assert "not in it: 2 interrupted, 2 failed" in said.stderr
    ours, theirs = path.read_text(), (FIXTURE / "clean_runs.csv").read_text()
    require_same_table(ours, theirs)
    if ours.partition("\n")[0] == theirs.partition("\n")[0]:
        assert ours == theirs
    assert results.load(then / "runs").to_csv(index=False, lineterminator="\n") == ours


def test_status_counts_them_as_before(then: Path, command: RunCommand) -> None:
    where = ("--runs", then / "runs", "--json")
    told = json.loads(command("python", "-m", "src.sweep", "status", "--all", *where).stdout)
    assert told["all"]["trainings"].items() >= STATES.items()
    assert told["all"]["cells"].items() >= {**STATES, "done": 7}.items()
    assert told["outside"] == 0


def test_reports_are_made_of_them(then: Path, command: RunCommand) -> None:
    report = ("python", "-m", "src.report")
    runs = ("--runs", then / "runs")
    table = (*runs, "--csv", then / "clean_runs.csv", "-q")
    found = json.loads(command(*report, "top-k", "table", *table, "--json").stdout)
    with (FIXTURE / "clean_runs.csv").open(newline="") as file:
        best = max(csv.DictReader(file), key=lambda row: float(row["best_val_accuracy"]))
    assert len(found) == 5
    assert str(found[0]["best_val_accuracy"]) == best["best_val_accuracy"]
    chosen = next(iter(folders(FIXTURE, "best_val_acc.pt")))
    assert json.loads(command(*report, "classes", *runs, "--run", chosen, "--json").stdout)


def test_the_page_shows_them(then: Path) -> None:
    """The page alone, without the charts beside it: what --watch writes."""
    words = ("--runs", then / "runs", "--csv", then / "clean_runs.csv", "--out", then / "report")
    page = then / "report" / "report.html"
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


def test_what_broke_and_saved_weights_are_told(then: Path, command: RunCommand) -> None:
    [broken] = [p for p in folders(then, "failure.json").values() if config_of(p).seed == 2]
    words = (broken.name, "--runs", then / "runs")
    said = command("python", "-m", "src.sweep", "logs", *words).stdout
    assert "RuntimeError: out of luck" in said
    trained = next(iter(folders(then, "best_val_acc.pt").values()))
    command("python", "-m", "src.evaluate", "--model", trained)


# what goes on


def test_what_is_done_is_not_trained_again(then: Path) -> None:
    before = contents(then / "runs")
    done = folders(then, "result.json")
    cells = [RunConfig(**read(cell)) for path in done.values() for cell in path.glob("cells/*")]
    outcomes = run(cells, runs_dir=then / "runs")
    assert [outcome.state for outcome in outcomes] == ["done"] * 7
    assert all(outcome.result == read(outcome.folder / "result.json") for outcome in outcomes)
    assert contents(then / "runs") == before


def test_a_pruned_run_is_left_alone_by_a_pruner_and_else_trained(
    then: Path, command: RunCommand
) -> None:
    [(run_id, folder)] = folders(then, "pruned.json").items()
    before = contents(folder)
    words = ("--sets", then / "sets", "--runs", then / "runs", "--wandb", "disabled", "-q")
    said = command("python", "-m", "src.sweep", "work", *words, "--prune").stdout
    assert said.startswith("pruned")
    assert contents(folder) == before
    [outcome] = run([config_of(folder)], runs_dir=then / "runs")
    assert (outcome.state, outcome.folder) == ("done", folder)
    assert (outcome.result or {})["run_id"] == run_id
    assert (outcome.result or {})["epochs_run"] == 3
    assert not (folder / "pruned.json").exists()


def test_a_run_that_diverged_is_given_up_and_one_that_broke_tried_again(then: Path) -> None:
    failed = folders(then, "failure.json")
    outcomes = run([config_of(path) for path in failed.values()], runs_dir=then / "runs")
    for outcome in outcomes:
        diverged = outcome.config.learning_rate > 1
        assert outcome.state == ("failed" if diverged else "done")
        assert len(list(outcome.folder.glob("attempts/*.json"))) == (1 if diverged else 2)


def test_a_resume_checkpoint_is_loaded_bit_for_bit(then: Path) -> None:
    interrupted = folders(then, "resume.pt")
    assert len(interrupted) == 2
    for run_id, folder in interrupted.items():
        names = ["resume.pt"]
        if (folder / "resume.before.pt").exists():
            names.append("resume.before.pt")
        for name in names:
            saved = checkpoint(folder / name)
            assert saved["id"] == run_id
            assert saved["step"] > 0
            state = opened(config_of(folder), folder)
            for group in saved["learner"]["optimizer"]["param_groups"]:
                del group["lr"]  # set anew by every step
            del saved["device"]  # is this one's
            assert list(differences(state, saved)) == []
            (folder / name).write_bytes(b"damaged")  # then the one before it counts
        assert opened(config_of(folder), folder)["step"] == 0


def test_an_interrupted_run_ends_the_same_however_often_it_is_stopped(
    then: Path, tmp_path: Path
) -> None:
    """Begun by the earlier code, and gone on with by this one."""
    other = shutil.copytree(FIXTURE, tmp_path / "other")
    for run_id, folder in folders(then, "resume.pt").items():
        told = folder / "history.jsonl"
        rows = told.read_text() if told.exists() else ""
        config = replace(config_of(folder), keep_checkpoints="all")
        [whole] = run([config], runs_dir=then / "runs")
        for _ in range(2):
            with pytest.raises(Stopped):
                run([config], runs_dir=other / "runs", options=RunOptions(stop=steps(5)))
        [parts] = run([config], runs_dir=other / "runs")
        assert parts.folder.name == whole.folder.name == folder.name
        assert whole.result
        assert parts.result
        assert (whole.result["run_id"], whole.result["attempt"]) == (run_id, 2)
        assert (parts.result["run_id"], parts.result["attempt"]) == (run_id, 4)
        assert [whole.result[name] for name in ARITHMETIC] == [
            getattr(config, name) for name in ARITHMETIC
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


def test_a_search_goes_on_from_its_journal(then: Path, command: RunCommand) -> None:
    [journal] = then.glob("runs/searches/*.log")
    before, runs = journal.read_bytes(), folders(then)
    words = ("--config", then / "small.yaml", "--trials", 3, "--runs", then / "runs", "--json")
    more = ("--out", then / "out", "--wandb", "disabled")
    said = command("python", "-m", "src.tune", "search", *words, *more)
    found = json.loads(said.stdout)
    assert found["study"] == journal.stem
    assert found["trials"] == {"complete": 3, "pruned": 0, "failed": 0, "running": 0}
    assert "after 2 of 3 trials" in said.stderr
    assert "trial 2 (3 of 3)" in said.stderr
    assert "trial 1 (" not in said.stderr
    assert journal.read_bytes().startswith(before)
    assert list(then.glob("runs/searches/*.log")) == [journal]
    assert len(folders(then)) == len(runs) + 1


def test_a_found_rate_is_used_and_not_measured_again(then: Path, command: RunCommand) -> None:
    [path] = then.glob("runs/*/learning_rate-*.json")
    before = contents(then / "runs")
    words = ("--config", then / "found.yaml", "--learning-rate", "find", "--runs", then / "runs")
    said = command("python", "src/main.py", *words, "--wandb", "disabled")
    assert said.stdout.startswith("done")
    assert f"_lr_{read(path)['learning_rate']}_" in said.stdout
    assert contents(then / "runs") == before


def test_the_newest_submission_is_seen(then: Path, command: RunCommand) -> None:
    """What it trained needs no other one, and the next is called by the next number."""
    record = read(then / "runs" / "submissions" / "1" / "submission.json")
    submit = ("python", "-m", "src.sweep", "submit", "--executor", "local", "--dry-run", "--json")
    runs = ("--runs", then / "runs")
    told = json.loads(command(*submit, "--grid", then / "grid.yaml", *runs).stdout)
    assert told["submission"] is None
    assert [(group["runs"], group["done"]) for group in told["groups"]] == [(2, 2)]
    assert set(record["arrays"][0]["runs"]) <= set(folders(then, "result.json"))
    more = {**yaml.safe_load((then / "grid.yaml").read_text()), "seed": [0, 9]}
    (then / "more.yaml").write_text(yaml.safe_dump(more))
    told = json.loads(command(*submit, "--grid", then / "more.yaml", *runs).stdout)
    assert told["submission"] == record["submission"] + 1 == 2
    assert [(group["runs"], group["done"]) for group in told["groups"]] == [(4, 2)]
    work = ("--sets", then / "runs" / "submissions" / "1" / "sets", *runs)
    done = command("python", "-m", "src.sweep", "work", "1", *work, "--wandb", "disabled").stdout
    assert [line.split()[0] for line in done.splitlines()] == ["done", "done"]


def test_a_wandb_run_goes_on_under_its_id(
    then: Path, command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(run_id, folder)] = folders(then, "wandb.json").items()
    noted = read(folder / "wandb.json")
    sync, runs = ("python", "-m", "src.sweep", "sync"), ("--runs", then / "runs")
    said = command(*sync, *runs, "--dry-run").stdout
    assert "9 runs would be sent; 0 are there already, 2 not over yet" in said
    log = then / "told.jsonl"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("FAKE_WANDB_LOG", str(log))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "tracking" / "fake"))
    command(*sync, run_id, *runs)
    assert {json.loads(line)["run"] for line in log.read_text().splitlines()} == {noted["id"]}
    assert read(folder / "wandb.json").items() >= {**noted, "uploaded": "done"}.items()
    said = command(*sync, *runs, "--dry-run").stdout
    assert "8 runs would be sent; 1 are there already, 2 not over yet" in said


# side by side


@pytest.fixture
def tiny() -> list[RunConfig]:
    """Six runs of half a second."""
    plain = {**SETTINGS, "keep_checkpoints": "best", "optimizer": "adamw", "learning_rate": 0.003}
    config = RunConfig(**{**plain, "num_epochs": 5, "max_images": 600, "batch_size": 20})
    return [replace(config, seed=100 + seed) for seed in range(6)]


def test_workers_of_both_codes_share_a_sweep(
    earlier: Path, tiny: list[RunConfig], tmp_path: Path, command: RunCommand
) -> None:
    """Each run is done once, whoever does it, and both make the same table of it."""
    sets.write([tiny], tmp_path / "sets")
    for attempt in range(3):  # a worker may be so late that nothing is left for it
        runs = tmp_path / f"runs{attempt}"
        words = ("--sets", tmp_path / "sets", "--runs", runs, "--wandb", "disabled", "-q")

        def work(code: Path, words: tuple[object, ...] = words) -> str:
            return command("python", "-m", "src.sweep", "work", *words, cwd=code).stdout

        with ThreadPoolExecutor(2) as both:
            said = list(both.map(work, (ROOT, earlier)))
        for one in said:
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
        pytest.fail("three times one worker did all of it")
    tables = []
    for name, code in (("ours", ROOT), ("theirs", earlier)):
        table = ("--runs", runs, "--csv", tmp_path / f"{name}.csv")
        command("python", "-m", "src.report", "aggregate", *table, cwd=code)
        tables.append((tmp_path / f"{name}.csv").read_text())
    require_same_table(*tables)


def test_what_one_code_leaves_the_other_goes_on_with(
    earlier: Path, tiny: list[RunConfig], tmp_path: Path, command: RunCommand
) -> None:
    """In turn, so that a queue with jobs of both loses nothing."""
    config = replace(tiny[0], num_epochs=3, max_images=100)
    (tmp_path / "config.json").write_text(json.dumps(config.stored()))
    runs, states = tmp_path / "runs", []
    for code, count in ((earlier, 16), (ROOT, 16), (earlier, 10**6)):
        environment = {**os.environ, "PYTHONPATH": str(code)}
        words = ("python", HERE / "train_steps.py", tmp_path / "config.json", runs, count)
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
