"""python -m src.sweep confirm: the shortlist, fresh and final seeds, races, and bad input."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.common import paths
from src.common.errors import ExitStatus
from src.comparison import confirmation_plan as plans
from src.comparison.configurations import read_configurations
from src.config import RunConfig
from src.runs.run_folder import RunFolder
from src.slurm import job_queue
from src.sweep import sets
from src.sweep.__main__ import main
from src.sweep.commands import submit
from tests.conftest import RunCommand, wait_until
from tests.sweep import folders

Confirm = Callable[..., list[dict[str, Any]]]
RATES = (0.1, 0.03, 0.01, 0.003)
TRUTH = dict(zip(RATES, (0.80, 0.79, 0.60, 0.50), strict=True))


@pytest.fixture
def confirm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Confirm:
    """Return a function that runs the command on tmp_path and parses --json."""

    def call(*words: object) -> list[dict[str, Any]]:
        assert main(["confirm", "--runs", str(tmp_path), *map(str, words), "--json"]) == 0
        output: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        return output

    return call


def make(rate: float, seed: int = 0, **settings: Any) -> RunConfig:
    given = {"model_type": "cifar10net", "base_dataset_path": "synthetic", **settings}
    return RunConfig(learning_rate=rate, seed=seed, **given)


def put_sweep(runs: Path, **settings: Any) -> None:
    """Write the finished runs of a sweep with one seed."""
    for rate in RATES:
        done = [folders.attempt(60, "done")]
        folders.put(runs, make(rate, **settings), tries=done, accuracy=TRUTH[rate])


def listed(runs: Path) -> list[RunConfig]:
    """Return the runs of the set files that the command has written."""
    folder = paths.confirmation_sets_dir(runs)
    return [config for _, path in sets.numbered(folder) for config in sets.read(path)]


def train(runs: Path, noise: float = 0.002) -> list[RunConfig]:
    """Write a result for every run that is listed; its noise depends on its seed and rate."""
    configs = listed(runs)
    for config in configs:
        random = np.random.default_rng([config.seed, round(1e6 * config.learning_rate)])
        accuracy = TRUTH[config.learning_rate] + noise * random.standard_normal()
        folders.put(runs, config, tries=[folders.attempt(60, "done")], accuracy=accuracy)
    return configs


def test_fresh_seeds_then_final_seeds_of_the_winner(confirm: Confirm, tmp_path: Path) -> None:
    put_sweep(tmp_path)
    [state] = confirm("-k", 3, "--seeds", 4)
    assert (state["stage"], len(state["missing"]), state["most_missing"]) == ("replicates", 12, 16)
    fresh = train(tmp_path)
    assert {run.seed for run in fresh} == {1000, 1001, 1002, 1003}
    assert {run.learning_rate for run in fresh} == set(RATES[:3])
    [state] = confirm("-k", 3, "--seeds", 4)
    assert (state["stage"], state["winner"]) == ("final seeds", None)
    final = train(tmp_path)
    assert {(run.seed, run.learning_rate) for run in final} == {
        (seed, 0.1) for seed in range(2000, 2004)
    }
    [state] = confirm("-k", 3, "--seeds", 4)
    assert (state["stage"], state["missing"], listed(tmp_path)) == ("confirmed", [], [])
    winner = state["winner"]
    assert winner["config_id"] == make(0.1).config_id
    assert (winner["seeds"], winner["seeds_are_final"]) == ([2000, 2001, 2002, 2003], True)
    results = [RunFolder.of(run, tmp_path).result() or {} for run in final]
    mean = sum(result["test_accuracy_best_val_acc"] for result in results) / 4
    assert winner["test_accuracy"] == pytest.approx(mean)
    assert winner["test"][0] < mean < winner["test"][1]
    validation = sum(result["best_val_accuracy"] for result in results) / 4
    assert winner["selection_bias"] == pytest.approx(TRUTH[0.1] - validation)
    verdicts = [one["verdict"] for one in state["candidates"]]
    assert verdicts == ["best", "behind", "behind"]
    assert state["candidates"][0]["probability_of_best"] > 0.95


def test_called_again_it_adds_only_what_is_missing(confirm: Confirm, tmp_path: Path) -> None:
    put_sweep(tmp_path)
    confirm("-k", 2, "--seeds", 3)
    for run in listed(tmp_path)[:4]:
        folders.put(tmp_path, run, tries=[folders.attempt(60, "done")], accuracy=0.7)
    [state] = confirm("-k", 2, "--seeds", 3)
    assert len(state["missing"]) == 2
    train(tmp_path)
    [state] = confirm("-k", 3, "--seeds", 5)  # one more configuration, two more seeds
    assert len(state["missing"]) == 2 * 2 + 5
    [plan] = plans.read_plans(tmp_path).values()
    assert [one.chosen_accuracy for one in plan.shortlist] == [0.80, 0.79, 0.60]


def test_fresh_results_do_not_change_what_the_choice_was(confirm: Confirm, tmp_path: Path) -> None:
    put_sweep(tmp_path)
    confirm("-k", 2, "--seeds", 2)
    for run in listed(tmp_path):
        folders.put(tmp_path, run, tries=[folders.attempt(60, "done")], accuracy=0.1)
    [state] = confirm("-k", 2, "--seeds", 2)
    chosen = {one["config_id"]: one["chosen_accuracy"] for one in state["candidates"]}
    assert chosen == {make(0.1).config_id: 0.80, make(0.03).config_id: 0.79}


def test_fresh_seeds_are_none_that_the_sweep_has_used(confirm: Confirm, tmp_path: Path) -> None:
    put_sweep(tmp_path)
    done = [folders.attempt(60, "done")]
    folders.put(tmp_path, make(0.1, 1002), tries=done, accuracy=0.8)
    confirm("-k", 2, "--seeds", 2)
    assert {run.seed for run in listed(tmp_path)} == {2000, 2001}


def test_sweep_with_several_seeds_is_judged_by_their_mean(confirm: Confirm, tmp_path: Path) -> None:
    put_sweep(tmp_path)
    done = [folders.attempt(60, "done")]
    folders.put(tmp_path, make(0.1, 1), tries=done, accuracy=0.40)
    [state] = confirm("-k", 2, "--seeds", 2)
    [plan] = plans.read_plans(tmp_path).values()
    assert [one.config.learning_rate for one in plan.shortlist] == [0.03, 0.1]
    assert [one.chosen_accuracy for one in plan.shortlist] == [0.79, pytest.approx(0.60)]
    assert [one.chosen_seeds for one in plan.shortlist] == [1, 2]
    assert state["most_missing"] == 6


def test_race_drops_configurations_and_trains_less(
    confirm: Confirm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_sweep(tmp_path)
    words = ["-k", 4, "--seeds", 5, "--final-seeds", 0, "--race"]
    trained = []
    for _ in range(6):
        [state] = confirm(*words)
        if not state["missing"]:
            break
        trained += train(tmp_path)
    assert state["stage"] == "confirmed"
    assert len(trained) < 4 * 5
    assert {run.seed for run in trained if run.learning_rate == 0.003} == {1000, 1001}
    dropped = {one["config_id"]: one["dropped_after"] for one in state["candidates"]}
    assert dropped[make(0.003).config_id] == 2
    assert state["winner"]["seeds_are_final"] is False
    assert state["winner"]["config_id"] == make(0.1).config_id
    [last] = [one for one in state["candidates"] if one["config_id"] == make(0.003).config_id]
    assert last["behind"] in {one["config_id"] for one in state["candidates"]}
    assert last["behind_by"] > 0.02
    main(["confirm", *map(str, words), "--runs", str(tmp_path)])
    assert re.search(
        r"The race is over: (one is left|all 5 seeds are used)\.", capsys.readouterr().out
    )


def test_margin_ends_a_race_of_equals(
    confirm: Confirm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_sweep(tmp_path)
    words = ["-k", 2, "--seeds", 9, "--final-seeds", 0, "--race"]
    confirm(*words)
    for run in listed(tmp_path):
        accuracy = 0.79 + 0.001 * (run.seed % 2)
        folders.put(tmp_path, run, tries=[folders.attempt(60, "done")], accuracy=accuracy)
    assert confirm(*words)[0]["stage"] == "replicates"
    [state] = confirm(*words, "--margin", 5)
    assert (state["stage"], len(state["candidates"][0]["seeds"])) == ("confirmed", 2)
    assert [one["verdict"] for one in state["candidates"]] == ["best", "not told apart"]
    main(["confirm", *map(str, words), "--margin", "5", "--runs", str(tmp_path)])
    assert re.search(r"not distinguishable *\n", capsys.readouterr().out)


def test_configuration_that_diverges_cannot_win(confirm: Confirm, tmp_path: Path) -> None:
    put_sweep(tmp_path)
    confirm("-k", 3, "--seeds", 2, "--final-seeds", 0)
    lost = next(run for run in listed(tmp_path) if run.learning_rate == 0.1)
    failure = {"cause": "non-finite loss", "kind": "NonFiniteLoss", "message": "", "retry": False}
    tried = [folders.attempt(60, "failed")]
    folders.put(tmp_path, lost, tries=tried, failure=failure)
    [state] = confirm("-k", 3, "--seeds", 2, "--final-seeds", 0)
    assert len(state["missing"]) == 4
    train(tmp_path)
    [state] = confirm("-k", 3, "--seeds", 2, "--final-seeds", 0)
    assert state["winner"]["config_id"] == make(0.03).config_id
    assert state["candidates"][-1]["verdict"] == "diverged"


@pytest.mark.parametrize("race", [[], ["--race"]])
def test_configuration_whose_every_seed_failed_is_left_out(
    confirm: Confirm, tmp_path: Path, race: list[str]
) -> None:
    put_sweep(tmp_path)
    words = ["-k", 2, "--seeds", 2, "--final-seeds", 0, *race]
    confirm(*words)
    failure = {"cause": "other", "kind": "KeyError", "message": "x", "retry": True}
    tries = [folders.attempt(1, "failed")] * 3  # more than are made again
    for run in listed(tmp_path):
        if run.learning_rate == 0.1:
            folders.put(tmp_path, run, tries=tries, failure=failure)
    [state] = confirm(*words)
    assert len(state["missing"]) == 2
    train(tmp_path)
    [state] = confirm(*words)
    assert (state["stage"], state["winner"]["config_id"]) == ("confirmed", make(0.03).config_id)
    assert state["candidates"][-1]["verdict"] == "no result"


@pytest.mark.parametrize(
    ("diverged", "said"),
    [(True, "configuration can win"), (False, "not confirmed: none of 4 missing runs was done")],
)
def test_exit_status_says_if_nothing_could_be_confirmed(
    confirm: Confirm,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    diverged: bool,
    said: str,
) -> None:
    """Every run has diverged, or is trained by a worker of another machine."""
    put_sweep(tmp_path)
    words = ["-k", "2", "--seeds", "2", "--final-seeds", "0"]
    confirm(*words)
    failure = {"cause": "non-finite loss", "kind": "NonFiniteLoss", "message": "", "retry": False}
    for run in listed(tmp_path):
        tries = [folders.attempt(60, "failed" if diverged else None)]
        folders.put(tmp_path, run, tries=tries, failure=failure if diverged else None)
    submit = ["--submit", "--executor", "local", "--device", "cpu"]
    assert main(["confirm", "--runs", str(tmp_path), *words, *submit]) == 1
    assert said in "".join(capsys.readouterr())


def test_dry_run_writes_nothing(confirm: Confirm, tmp_path: Path) -> None:
    put_sweep(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    [state] = confirm("-k", 2, "--dry-run")
    assert len(state["missing"]) == 10
    assert sorted(tmp_path.rglob("*")) == before


def test_costs_and_prospects_are_said_beforehand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_sweep(tmp_path)
    for rate in RATES[:2]:
        path = RunFolder.of(make(rate), tmp_path).path / paths.RESULT
        path.write_text(json.dumps({**json.loads(path.read_text()), "train_seconds": 1800.0}))
    assert main(["confirm", "--runs", str(tmp_path), "-k", "2"]) == ExitStatus.DONE
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "10 trainings are missing now, 15 at most until the end: 5.0 hours and 7.5 hours of" in text
    )
    assert "the first led the second by 1.00 points. The spread of seeds is not known yet" in text
    assert "with 5 seeds a lead of" in text
    assert f"work --sets {paths.shown(paths.confirmation_sets_dir(tmp_path))}" in text
    done = [folders.attempt(60, "done")]
    folders.put(tmp_path, make(0.003, 1), tries=done, accuracy=TRUTH[0.003] + 0.002)
    assert main(["confirm", "--runs", str(tmp_path), "-k", "2"]) == ExitStatus.DONE
    text = " ".join(capsys.readouterr().out.split())
    assert "one seed's standard deviation is 0.14 points" in text
    assert "5 seeds detect it with probability 100%" in text


def test_two_plans_at_the_same_moment_agree(tmp_path: Path) -> None:
    put_sweep(tmp_path)
    configurations = list(read_configurations(tmp_path).values())
    chosen = tuple(plans.shortlist(configurations, 2))
    plan = plans.ConfirmationPlan(model="cifar10net", shortlist=chosen, seeds=3, final_seeds=0)
    assert plans.write_plan(tmp_path, plan, None)
    assert not plans.write_plan(tmp_path, replace(plan, seeds=4), None)
    assert plans.read_plan(tmp_path, "cifar10net") == plan
    assert plans.write_plan(tmp_path, replace(plan, seeds=4), plan)


def test_runs_that_differ_in_seed_alone_are_one_configuration(tmp_path: Path) -> None:
    assert make(0.1).config_id == make(0.1, 7).config_id
    assert make(0.1).config_id not in (make(0.1).id, make(0.1, 7).id, make(0.03).config_id)
    assert make(0.1, split_seed=1, val_split="random").config_id != make(0.1).config_id
    put_sweep(tmp_path)
    folders.put(tmp_path, make(0.1, 7), tries=[folders.attempt(60, "done")], accuracy=0.5)
    found = read_configurations(tmp_path)
    assert len(found) == len(RATES)
    assert set(found[make(0.1).config_id].replicates) == {0, 7}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-k", 0], "-k: '0': expected a whole number above 0"),
        (["--seeds", 0], "--seeds: '0': expected a whole number above 0"),
        (["--final-seeds", -1], "final_seeds: '-1': expected a whole number above 0"),
        (["--margin", "x", "--race"], "--margin: 'x': expected a number from 0"),
        (["--margin", 1], "--margin needs --race"),
        (["--seeds", 1001], "expected at most 1000"),
        (["--model", "vit"], "--model 'vit': no finished run; expected one of cifar10net"),
        (["-k", 9], "-k 9: cifar10net has 4 configurations with a finished run"),
        (["--submit", "--prune"], "--submit --prune: replicates are trained to their end"),
        (["--submit", "--dry-run"], "expected --dry_run before --submit"),
        (["--submit", "--sets", "x"], "--submit --sets: the runs are those of the shortlist"),
        (["--submit", "--worker", 2], "unknown argument '--worker'; did you mean --workers?"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, expect_bad_input: Callable[..., str], words: list[object], message: str
) -> None:
    put_sweep(tmp_path)
    k = [] if "-k" in words else ["-k", 2]
    assert message in expect_bad_input(main, "confirm", "--runs", tmp_path, *k, *words)
    assert not paths.confirmations_dir(tmp_path).exists()  # nothing was planned


def test_runs_folder_that_mixes_data_is_refused(
    tmp_path: Path, expect_bad_input: Callable[..., str]
) -> None:
    put_sweep(tmp_path)
    for rate, digest in zip(RATES, "aabb", strict=True):
        path = RunFolder.of(make(rate), tmp_path).path / paths.RESULT
        path.write_text(json.dumps({**json.loads(path.read_text()), "data_digest": digest}))
    line = expect_bad_input(main, "confirm", "--runs", tmp_path, "-k", 2)
    assert "data of different content: a, b; expected runs on one" in line
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    line = expect_bad_input(main, "confirm", "--runs", tmp_path)
    assert "no finished run" in line


def test_damaged_plan_is_named(tmp_path: Path, expect_bad_input: Callable[..., str]) -> None:
    put_sweep(tmp_path)
    path = paths.confirmations_dir(tmp_path) / "cifar10net" / "1.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    line = expect_bad_input(main, "confirm", "--runs", tmp_path, "-k", 2)
    assert "1.json: not a confirmation; remove it to choose anew" in line


def test_real_sweep_is_confirmed_although_it_is_killed(command: RunCommand, tmp_path: Path) -> None:
    """Two rates of a tiny network on the stand-in: killed after a replicate, it goes on."""
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "model_type: cifar10net\nbase_dataset_path: synthetic\nmax_images: 200\nnum_epochs: 3\n"
        "batch_size: 50\nlearning_rate: [0.001, 0.01]\nprecision: float32\n"
        "memory_format: contiguous\n"
    )
    runs = tmp_path / "runs"
    sweep = ["python", "-m", "src.sweep"]
    command(*sweep, "submit", "--grid", grid, "--runs", runs, "--executor", "inline", "-q")
    words = ["confirm", "-k", 2, "--seeds", 2, "--final-seeds", 1, "--runs", runs]
    train_all = ["--submit", "--executor", "inline", "--slots", 1, "-q"]
    worker = subprocess.Popen(
        [sys.executable, "-m", "src.sweep", *map(str, words), *map(str, train_all)], cwd=paths.ROOT
    )
    wait_until(lambda: len(finished(runs)) > 2 or worker.poll() is not None)
    worker.kill()
    assert worker.wait() == -signal.SIGKILL
    before = finished(runs)
    done = command(*sweep, *words, *train_all)
    assert "The winner" in done.stdout
    assert before.items() <= finished(runs).items()  # nothing was trained twice
    assert seeds_of(runs) == [0, 0, 1000, 1000, 1001, 1001, 2000]
    [state] = json.loads(command(*sweep, *words, "--json").stdout)
    assert (state["stage"], state["winner"]["seeds"]) == ("confirmed", [2000])


@pytest.mark.parametrize("json_in_front", [True, False])
def test_json_of_a_submission_is_one_document(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    json_in_front: bool,
) -> None:
    """Submit's own output goes to stderr; the state is printed once, as it is at the end."""
    put_sweep(tmp_path)

    def train(arguments: list[str]) -> ExitStatus:
        assert "--json" not in arguments
        print("a table of submit")
        for run in listed(tmp_path):
            folders.put(tmp_path, run, tries=[folders.attempt(60, "done")], accuracy=0.8)
        return ExitStatus.DONE

    monkeypatch.setattr(submit, "main", train)
    options = ["--submit", "--executor", "inline"]
    options = ["--json", *options] if json_in_front else [*options, "--json"]
    words = ["-k", "2", "--seeds", "2", "--final_seeds", "1", *options]
    assert main(["confirm", "--runs", str(tmp_path), *words]) == ExitStatus.DONE
    output = capsys.readouterr()
    [state] = json.loads(output.out)
    assert state["stage"] == "confirmed"
    assert output.err.count("a table of submit") == 2


@pytest.mark.slurm
def test_confirmation_is_trained_on_a_cluster(
    cluster: Path, command: RunCommand, tmp_path: Path
) -> None:
    """Called again after the replicates, it submits the final seed; nothing is queued twice."""
    grid, runs = tmp_path / "grid.yaml", tmp_path / "my runs"
    grid.write_text(
        "model_type: cifar10net\nbase_dataset_path: synthetic\nmax_images: 200\nnum_epochs: 1\n"
        "batch_size: 50\nlearning_rate: [0.001, 0.01]\n"
    )
    sweep = ["python", "-m", "src.sweep"]
    command(*sweep, "submit", "--grid", grid, "--runs", runs, "--executor", "inline", "-q")
    words = ["confirm", "-k", 2, "--seeds", 2, "--final-seeds", 1, "--runs", runs]
    asked = ["--submit", "--workers", 2, "--cpus", 1, "--time", 10]
    first = command(*sweep, *words, *asked)
    assert "4 trainings are missing now" in first.stdout
    command(*sweep, *words, *asked)
    assert len(list((runs / "submissions").iterdir())) == 1, "the workers are queued"
    wait_until(lambda: job_queue.jobs() == {})
    assert len(finished(runs)) == 2 + 4
    assert "The winner" not in command(*sweep, *words, *asked).stdout
    wait_until(lambda: job_queue.jobs() == {})
    assert len(finished(runs)) == 2 + 4 + 1
    done = command(*sweep, *words)
    assert "The winner" in done.stdout
    assert seeds_of(runs) == [0, 0, 1000, 1000, 1001, 1001, 2000]


def seeds_of(runs: Path) -> list[int]:
    """Return the seeds of all finished runs."""
    found = read_configurations(runs)
    return sorted(seed for one in found.values() for seed in one.replicates)


def finished(runs: Path) -> dict[Path, int]:
    """Return the results, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in runs.glob("*/*/result.json")}
