"""Optuna searches: trials as runs, interruption, pruning, failures, several workers."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml

from src import data, run
from src.cli.arguments import Parser
from src.cli.config_flags import add_config_flags, config_from
from src.common.errors import Stopped, UserError
from src.common.paths import ROOT, shown
from src.config import RunConfig
from src.data.dataset import Dataset
from src.runs.precision_decisions import PrecisionDecisions
from src.runs.run_folder import RunFolder, State
from src.sweep.launch import local_workers
from src.tune import best_trial, search_charts, search_data, study
from src.tune.search_space import Choice, Range, SearchSpace
from src.tune.study import TrialStudy
from tests.conftest import wait_until
from tests.tune.conftest import Tune

FILE = {
    "base_dataset_path": "synthetic",
    "model_type": "cifar10net",
    "num_epochs": 2,
    "max_images": 200,
    "search": {
        "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
        "batch_size": [20, 40],
    },
}


@pytest.fixture
def space(config: RunConfig, small_synthetic: None) -> SearchSpace:
    """Return a search over learning rate and a dense layer, with trials of one second."""
    small = replace(config, num_epochs=2, max_images=100, batch_size=25)
    rates = Range(1e-4, 1.0, log=True)
    return SearchSpace("small", small, {"learning_rate": rates, "fc1": Choice((8, 9))})


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**FILE, **changes}))
    return path


def parameters(search: TrialStudy) -> list[dict[str, Any]]:
    return [trial.params for trial in search.trials()]


def test_trials_are_finished_runs_with_same_losses(space: SearchSpace, tmp_path: Path) -> None:
    messages: list[str] = []
    search = TrialStudy(space, tmp_path, log=messages.append)
    assert search.work(4) is None
    assert best_trial.counts(search) == {"complete": 4, "pruned": 0, "failed": 0, "running": 0}
    for trial in search.trials():
        folder = RunFolder.of(space.config(trial.params), tmp_path)
        losses = {row["epoch"]: row["val_loss"] for row in folder.history()}
        assert folder.state() == State.DONE
        assert trial.intermediate_values == losses
        assert trial.value == min(losses.values())
    assert messages[0].startswith("trial 0 (1 of 4): learning_rate ")
    assert len(messages) == 8


def test_trial_of_several_seeds_is_judged_by_their_mean(space: SearchSpace, tmp_path: Path) -> None:
    search = TrialStudy(replace(space, replicate_seeds=(7, 8)), tmp_path)
    assert search.work(2) is None
    for trial in search.trials():
        first = space.config(trial.params)
        lowest = [
            min(row["val_loss"] for row in RunFolder.of(run, tmp_path).history())
            for run in (first, replace(first, seed=7), replace(first, seed=8))
        ]
        assert len(set(lowest)) == 3
        assert trial.value == pytest.approx(sum(lowest) / 3)
    assert search_data.collect(space, search.study).trials[0].loss == search.trials()[0].value


def test_continued_search_equals_uninterrupted_search(space: SearchSpace, tmp_path: Path) -> None:
    uninterrupted, folder = TrialStudy(space, tmp_path / "whole"), tmp_path / "parts"
    uninterrupted.work(4)
    TrialStudy(space, folder).work(1)
    TrialStudy(space, folder).work(1)  # no trial is left
    again = TrialStudy(space, folder)
    assert len(again.trials()) == 1
    again.work(4)
    assert parameters(again) == parameters(uninterrupted)
    assert [t.value for t in again.trials()] == [t.value for t in uninterrupted.trials()]
    rates = {values["learning_rate"] for values in parameters(uninterrupted)}
    assert len(rates) == 4
    other = TrialStudy(replace(space, base=replace(space.base, seed=1)), folder)
    other.work(1)
    assert parameters(other)[0] not in parameters(uninterrupted)


def test_stopped_trial_is_resumed(space: SearchSpace, tmp_path: Path) -> None:
    stop_answers = iter([False] * 8)
    first = TrialStudy(space, tmp_path, stop=lambda: next(stop_answers, True))
    with pytest.raises(Stopped):
        first.work(2)
    [interrupted] = first.trials()
    assert interrupted.state.name == "RUNNING"
    second = TrialStudy(space, tmp_path)
    second.work(2)
    trials = second.trials()
    assert trials[0].params == interrupted.params
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    attempts = RunFolder.of(space.config(interrupted.params), tmp_path).path / "attempts"
    assert len(list(attempts.iterdir())) == 2


def test_finished_runs_are_reused_without_training(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TrialStudy(space, tmp_path / "a").work(2)
    (tmp_path / "a" / "searches").rename(tmp_path / "old")
    monkeypatch.setattr(run, "Trainer", None)
    search = TrialStudy(space, tmp_path / "a")
    search.work(2)
    assert [len(trial.intermediate_values) for trial in search.trials()] == [2, 2]


def test_median_pruner_stops_bad_trial(space: SearchSpace, tmp_path: Path) -> None:
    """After five good trials, the median pruner stops one that hardly learns."""
    epochs = replace(space.base, num_epochs=3)
    good = replace(space, base=epochs, dimensions={"learning_rate": Choice((0.003,))})
    search = TrialStudy(good, tmp_path)
    search.work(5)
    search.space = replace(good, dimensions={"weight_decay": Choice((1e-4,))})
    search.space = replace(search.space, base=replace(epochs, learning_rate=1e-7))
    search.work(6)
    last = search.trials()[-1]
    assert last.state.name == "PRUNED"
    assert list(last.intermediate_values) == [1, 2]  # the first epoch is a warm-up
    assert best_trial.counts(search)["pruned"] == 1
    folder = RunFolder.of(search.space.config(last.params), tmp_path)
    assert folder.state() == State.PRUNED
    assert search.best() == search.trials()[0]


@pytest.mark.parametrize("pruner", ["halving", "none"])
def test_halving_and_no_pruner_complete_trials(
    space: SearchSpace, tmp_path: Path, pruner: str
) -> None:
    search = TrialStudy(space, tmp_path, pruner=pruner)
    assert search.work(2) is None
    assert len(search.trials("COMPLETE", "PRUNED")) == 2
    assert pruner != "none" or best_trial.counts(search)["complete"] == 2


def test_diverged_trials_are_failed(space: SearchSpace, tmp_path: Path) -> None:
    divergent = {"learning_rate": Choice((1e30,)), "fc1": Choice((8, 9))}
    base = replace(space.base, optimizer="sgd")
    search = TrialStudy(replace(space, base=base, dimensions=divergent), tmp_path)
    assert search.work(5) is None
    assert best_trial.counts(search)["failed"] == 5
    assert best_trial.best(search) is None


def test_search_stops_after_three_failed_trials_in_a_row(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_error(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(run.Trainer, "start", raise_error)
    search = TrialStudy(space, tmp_path)
    assert search.work(30) == "3 trials in a row broke: RuntimeError: out of luck"
    assert len(search.trials("FAIL")) == 3


def refuse_to_wait(seconds: float) -> None:
    raise AssertionError("nobody else trains this run")


def test_trial_that_this_device_cannot_train_is_left_to_another_worker(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "time", SimpleNamespace(sleep=refuse_to_wait))
    decided = PrecisionDecisions(tmp_path)._path(space.config({"fc1": 8}))
    decided.parent.mkdir()
    decided.write_text(json.dumps({"precision": "float16"}))
    space = replace(space, dimensions={**space.dimensions, "fc1": Choice((8,))})
    search = TrialStudy(space, tmp_path)
    why = search.work(2)
    assert why
    assert "not trained here: precision auto is float16 in this sweep" in why
    [given_back] = search.trials()
    assert given_back.state.name == "RUNNING"
    decided.unlink()  # as for a worker whose device has it
    again = TrialStudy(space, tmp_path)
    assert again.work(2) is None
    assert [trial.state.name for trial in again.trials()] == ["COMPLETE"] * 2
    assert again.trials()[0].params == given_back.params


def test_search_ends_with_the_reason_if_its_runs_are_of_other_data(
    space: SearchSpace, small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = replace(space, base=replace(space.base, base_dataset_path=str(tmp_path)))
    TrialStudy(space, tmp_path).work(1)
    (tmp_path / "searches").rename(tmp_path / "old")
    other = replace(small_dataset, train_labels=small_dataset.train_labels[::-1])
    monkeypatch.setattr(data, "load", lambda path, name: other)
    monkeypatch.setattr(study, "time", SimpleNamespace(sleep=refuse_to_wait))
    search = TrialStudy(space, tmp_path)
    assert "and the data here is" in str(search.work(1))
    assert [trial.state.name for trial in search.trials()] == ["RUNNING"]


def test_invalid_config_raises_user_error(space: SearchSpace, tmp_path: Path) -> None:
    tiny = replace(space.base, val_split="random", val_size=10**6)
    search = TrialStudy(replace(space, base=tiny), tmp_path)
    with pytest.raises(UserError, match="val_size"):
        search.work(3)


def test_best_recipe_reproduces_best_run(space: SearchSpace, tmp_path: Path) -> None:
    search = TrialStudy(space, tmp_path)
    search.work(3)
    result = best_trial.best(search)
    assert result
    recipe = best_trial.write_recipe(search, result, tmp_path / "out")
    assert "base_dataset_path" not in yaml.safe_load(recipe.read_text())
    assert recipe.name == "small_best.yaml"
    assert f"--config {shown(recipe)} -d synthetic\n" in recipe.read_text()
    parsed = Parser()
    parsed.add_argument("--config", type=Path)
    add_config_flags(parsed)
    repeated, _ = config_from(parsed.parse(["--config", str(recipe), "-d", "synthetic"]))
    assert repeated.id == result["run_id"]
    assert Path(result["run"]).name.endswith(repeated.id)
    assert RunFolder.of(repeated, tmp_path).state() == State.DONE


def test_search_data_for_charts(space: SearchSpace, tmp_path: Path) -> None:
    search = TrialStudy(space, tmp_path)
    for values, losses, state in (
        ((1e-4, 8), [3.0, 2.0], "COMPLETE"),
        ((1.0, 9), [4.0], "PRUNED"),
        ((0.01, 8), [1.5, 1.6], "COMPLETE"),
        ((0.1, 8), [], "FAIL"),
    ):
        search.study.add_trial(
            optuna.create_trial(
                state=optuna.trial.TrialState[state],
                value=min(losses) if state == "COMPLETE" else None,
                params=dict(zip(("learning_rate", "fc1"), values, strict=True)),
                distributions={
                    "learning_rate": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
                    "fc1": optuna.distributions.CategoricalDistribution((8, 9)),
                },
                intermediate_values=dict(enumerate(losses, 1)),
            )
        )
    result = search_data.collect(space, search.study)
    assert [(t.number, t.loss, t.pruned) for t in result.trials] == [
        (0, 2.0, False),
        (1, 4.0, True),
        (2, 1.5, False),
    ]
    assert result.trials[0].places == (0, 0)
    assert result.trials[1].places == (1, 1)
    assert result.trials[2].places == pytest.approx((0.5, 0))
    assert result.failed == (3,)
    assert result.best_so_far == (2.0, 2.0, 1.5)
    assert result.best.number == 2
    rate, dense = result.axes
    assert rate.log
    assert list(rate.ticks.values()) == ["0.0001", "0.001", "0.01", "0.1", "1"]
    assert list(rate.ticks) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert dense.ticks == {0.0: "8", 1.0: "9"}
    assert result.importances is None, "too few trials"
    of_seeds = search_data.collect(replace(space, replicate_seeds=(1, 2)), search.study)
    assert of_seeds.what == f"{result.what}, mean over 3 seeds"
    search_charts.draw(result, "small", tmp_path)
    counts = "Trials: 2 complete, 1 pruned, 1 failed"
    for name, words in {
        "history": (
            "Points: the lowest validation loss of each trial; lower is better",
            "Line: the lowest of the complete trials so far, without pruned ones",
            "pruned: its lowest so far",
            f"{counts}; the best is trial 2 with 1.5000.",
        ),
        "parallel": (
            "the darker, the lower and better its lowest validation loss",
            "pruned: its lowest so far",
            f"{counts}; failed ones have no line.",
        ),
    }.items():
        lines = re.findall(
            "<(?:text|tspan)[^>]*>([^<]+)<", (tmp_path / f"small_{name}.svg").read_text()
        )
        text = " ".join(" ".join(lines).split())
        for part in words:
            assert part in text


def test_importance_needs_eight_trials(space: SearchSpace, tmp_path: Path) -> None:
    search = TrialStudy(space, tmp_path)
    distributions = {
        "learning_rate": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
        "fc1": optuna.distributions.CategoricalDistribution((8, 9)),
    }
    for number in range(8):
        assert number == 0 or search_data.collect(space, search.study).importances is None
        params = {"learning_rate": 10 ** (-number / 2), "fc1": 8 + number % 2}
        search.study.add_trial(
            optuna.create_trial(value=number + 1.0, params=params, distributions=distributions)
        )
    result = search_data.collect(space, search.study)
    assert result.importances
    assert sum(result.importances.values()) == pytest.approx(1)
    search_charts.draw(result, "small", tmp_path)
    text = " ".join((tmp_path / "small_importance.svg").read_text().split())
    assert "ANOVA over 8 complete trials; pruned and failed ones are left out." in text
    assert (tmp_path / "small_importance.png").stat().st_size > 10_000


def test_search_command(tune: Tune, small_synthetic: None, tmp_path: Path) -> None:
    words = ("search", "--config", write(tmp_path))
    where = ("--runs", tmp_path / "runs", "--out", tmp_path / "out")
    one = tune(*words, *where, "--trials", 1, "--json", "-e", 1)
    result = json.loads(one.out)
    assert result["trials"] == {"complete": 1, "pruned": 0, "failed": 0, "running": 0}
    assert "no importance chart" in one.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    charts = {f"small_{c}.{s}" for c in ("history", "parallel") for s in ("png", "svg")}
    assert names == {"small_best.yaml", *charts}
    more = tune(*words, *where, "--trials", 3, "-e", 1)
    assert f"{result['study']} continues after 1 of 3 trials" in more.err
    assert "trials:  3 complete" in more.out
    text = (tmp_path / "out" / "small_history.svg").read_text()
    assert "cifar10net on synthetic, 1 epochs" in text
    done = tune(*words, *where, "--trials", 3, "-e", 1, "-q")
    assert done.out == more.out
    assert text == (tmp_path / "out" / "small_history.svg").read_text()


@contextmanager
def start_worker(*words: object, log: Path) -> Iterator[subprocess.Popen[str]]:
    with log.open("w") as file:
        command = [sys.executable, "-m", "src.tune", "search", *map(str, words)]
        with subprocess.Popen(command, cwd=ROOT, stderr=file, stdout=file, text=True) as process:
            yield process


@pytest.mark.parametrize(("signal_number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 3)])
def test_killed_or_stopped_search_is_continued(
    tune: Tune, tmp_path: Path, signal_number: signal.Signals, status: int
) -> None:
    words = ("--config", write(tmp_path, max_images=400, num_epochs=5), "--trials", 2)
    where = ("--runs", tmp_path / "runs", "--out", tmp_path / "out")
    log = tmp_path / "log"
    with start_worker(*words, *where, log=log) as process:
        wait_until(lambda: "epoch 1/5" in log.read_text())
        process.send_signal(signal_number)
    assert process.returncode == status
    first_line = log.read_text().splitlines()[0].partition("trial 0 ")[2]
    first_runs = {path.name for path in (tmp_path / "runs" / "cifar10net").iterdir()}

    done = tune("search", *words, *where)
    assert f"trial 0 {first_line}" in done.err
    assert "trials:  2 complete" in done.out
    assert (": resumed after" in done.err) == (signal_number == signal.SIGTERM)
    all_runs = {path.name for path in (tmp_path / "runs" / "cifar10net").iterdir()}
    assert len(all_runs) == 2
    assert first_runs < all_runs


def test_two_local_workers_share_one_search(tune: Tune, tmp_path: Path) -> None:
    words = ("--config", write(tmp_path, num_epochs=1), "--trials", 4, "--workers", 2)
    where = ("--runs", tmp_path / "runs", "--out", tmp_path / "out")
    done = tune("search", *words, *where)
    assert "trials:  4 complete" in done.out
    logs = [path.read_text() for path in (tmp_path / "runs").rglob("search-*.out")]
    assert len(logs) == 2
    runs = list((tmp_path / "runs" / "cifar10net").iterdir())
    assert len(runs) == 4
    assert all(len(list((path / "attempts").iterdir())) == 1 for path in runs)


def test_log_of_a_failed_worker_is_named(tune: Tune, tmp_path: Path) -> None:
    """Workers look for the search file after it has gone."""
    path = write(tmp_path, num_epochs=1)
    words = ("--config", path, "--trials", 1, "--workers", 2, "--runs", tmp_path / "runs")
    start = local_workers.start

    def start_without_file(*given: Any) -> list[local_workers.Process]:
        path.unlink()
        return start(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_workers, "start", start_without_file)
        done = tune("search", *words, "--out", tmp_path / "out")
    logs = sorted((tmp_path / "runs").rglob("search-*.out"))
    assert len(logs) == 2
    for number, log in enumerate(logs):
        assert f"worker {number} ended with status 2: {log}" in done.err


def test_logs_of_slurm_workers_are_named(
    tune: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "sbatch").write_text("#!/bin/sh\necho 12\n")
    (commands / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    words = ("--config", write(tmp_path, num_epochs=1), "--executor", "slurm")
    done = tune("search", *words, "--runs", tmp_path / "runs", "--out", tmp_path / "out")
    assert done.out == "12\n"
    [folder] = (tmp_path / "runs").rglob("jobs/1/logs")
    assert done.err == f"logs: {folder}\n"


def test_worker_command_line(tune: Tune, tmp_path: Path) -> None:
    """The command of a worker has the options of the search, but not those of submission."""
    words = ("--config", write(tmp_path, num_epochs=1), "--trials", 1, "--workers", 1)
    where = ("--runs", tmp_path / "runs", "--out", tmp_path / "out")
    tune("search", *words, *where, "--executor", "local", "--seed", 5, "--no-amsgrad")
    [script] = (tmp_path / "runs").rglob("search.sh")
    line = script.read_text().splitlines()[-1]
    assert " -m src.tune search --config=" in line
    assert line.endswith("--trials=1 --pruner=median --seed=5 --no_amsgrad")
    assert "#SBATCH --requeue" in script.read_text()
