"""Search spaces in YAML files: ranges, choices, names, and error messages."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from src.common.errors import UserError
from src.common.paths import ROOT
from src.tune import search_space
from src.tune.search_space import Choice, Range
from tests.conftest import RunCommand

RATE = {"low": "1e-4", "high": 0.1, "log": True}
FIXED = {"base_dataset_path": "synthetic", "model_type": "cifar10net", "scheduler": "step"}


def write(folder: Path, search: Any, **fixed: Any) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**FIXED, **fixed, "search": search}))
    return path


def test_list_of_seeds_makes_replicates_of_each_trial(tmp_path: Path) -> None:
    path = tmp_path / "seeds.yaml"
    recipe = "model_type: cifar10net\nsearch:\n  learning_rate: [0.1, 0.01]\n"
    path.write_text("seed: [3, 5]\n" + recipe)
    space = search_space.read(path, {})
    assert (space.base.seed, space.replicate_seeds) == (3, (5,))
    run = space.config({"learning_rate": 0.1})
    assert [one.seed for one in space.replicates(run)] == [5]
    assert {one.config_id for one in space.replicates(run)} == {run.config_id}
    assert search_space.read(path, {"seed": 9}).replicate_seeds == ()
    path.write_text("seed: 3\n" + recipe)
    assert search_space.read(path, {}).name != space.name
    for wrong in ("[3, 3]", "[3, -1]", "[]", "[x]"):
        path.write_text(f"seed: {wrong}\n" + recipe)
        with pytest.raises(UserError, match=r"seeds\.yaml: seed"):
            search_space.read(path, {})


def test_ranges_and_choices_are_read(tmp_path: Path) -> None:
    space = search_space.read(
        write(
            tmp_path,
            {
                "learning_rate": RATE,
                "dropout": {"low": 0.1, "high": 0.9, "step": 0.2},
                "step_size": {"low": 1, "high": 8, "log": True},
                "fc1": [32, 64],
            },
        ),
        {"num_epochs": "2"},
    )
    assert dict(space.dimensions) == {
        "learning_rate": Range(1e-4, 0.1, log=True),
        "dropout": Range(0.1, 0.9, step=0.2),
        "step_size": Range(1, 8, log=True),
        "fc1": Choice((32, 64)),
    }
    assert isinstance(space.dimensions["step_size"].examples[0], int)
    assert space.base.num_epochs == 2
    assert space.config({"fc1": 64, "learning_rate": 0.01}).fc1 == 64


def test_search_name_depends_on_space_and_fixed_settings(tmp_path: Path) -> None:
    def name(search: Any, flags: Any = {}, **fixed: Any) -> str:  # noqa: B006
        return search_space.read(write(tmp_path, search, **fixed), flags).name

    plain = name({"learning_rate": RATE})
    assert plain.startswith("small-")
    assert plain == name({"learning_rate": RATE}, device="cpu", keep_checkpoints="none")
    names = {
        name({"learning_rate": {**RATE, "high": 0.2}}),
        name({"learning_rate": RATE, "fc1": [32]}),
        name({"learning_rate": RATE}, seed=1),
        name({"learning_rate": RATE}, {"num_epochs": "3"}),
        plain,
    }
    assert len(names) == 5


def test_committed_search_has_published_space() -> None:
    space = search_space.read(ROOT / "run_config" / "cifar10net_search.yaml", {})
    assert space.dimensions["learning_rate"] == Range(1e-4, 0.1, log=True)
    assert space.dimensions["batch_size"] == Choice((32, 64, 128, 256))
    assert (space.base.num_epochs, space.base.optimizer) == (5, "adam")


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (None, "no settings under 'search:'"),
        ([], "no settings under 'search:'"),
        ({"learning_rat": RATE}, "unknown setting 'learning_rat'; did you mean learning_rate?"),
        ({"learning_rate": 0.1}, "expected a list of values or {low: ..., high: ...}"),
        ({"learning_rate": []}, "expected a list of values or {low: ..., high: ...}"),
        (
            {"optimizer": {"low": 1, "high": 2}},
            "expected a list of values",
        ),
        ({"learning_rate": {"low": 0.2, "high": 0.1}}, "expected low to be at most high"),
        ({"learning_rate": {"low": 0.1}}, "learning_rate 'missing': expected a number above 0"),
        ({"learning_rate": {**RATE, "hi": 1}}, "low, high, log and step, not 'hi'"),
        ({"learning_rate": {**RATE, "log": "yes"}}, "log to be true or false"),
        ({"weight_decay": {"low": 0, "high": 1, "log": True}}, "low to be above 0 with log"),
        ({"learning_rate": {**RATE, "step": 0.1}}, "step or log, not both"),
        (
            {"fc1": {"low": 1, "high": 9, "step": 0.5}},
            "step '0.5': expected a whole number",
        ),
        ({"fc1": {"low": 1, "high": 9, "step": 3}}, "expected whole steps from 1 to 9"),
        ({"fc1": {"low": 1.5, "high": 9}}, "fc1 '1.5': expected a whole number at least 1"),
        ({"fc1": {"low": "none", "high": 9}}, "numbers for low and high"),
        ({"dropout": {"low": 0.5, "high": 1}}, "dropout '1': expected a number at least 0"),
        ({"dropout": [0.1, 1.5]}, "dropout '1.5': expected a number at least 0 and below 1"),
        ({"batch_size": [32, 32]}, "expected different values"),
        ({"device": ["cpu"]}, "device cannot change a result"),
        ({"t_max": [5, 10]}, "t_max has no effect without scheduler cosine"),
        ({"flip": [0.1, 0.5]}, "flip has no effect without data_augmentation True"),
        (
            {"optimizer": ["adamw", "sgd"], "momentum": [0.9, 0.0], "nesterov": [False, True]},
            "momentum '0.0': expected a number above 0 with nesterov",
        ),
        ({"hidden_units": [8, 16]}, "model cifar10net has no such option"),
    ],
)
def test_invalid_search_space_gives_one_line_error(
    tmp_path: Path, search: Any, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        search_space.read(write(tmp_path, search), {})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_setting_may_depend_on_searched_setting(tmp_path: Path) -> None:
    search = {"scheduler": ["cosine", "step"], "t_max": [5, 10]}
    path = write(tmp_path, search)
    path.write_text(path.read_text().replace("scheduler: step\n", ""))
    assert set(search_space.read(path, {}).dimensions) == set(search)


def test_setting_with_value_and_range_is_rejected(tmp_path: Path, command: RunCommand) -> None:
    with pytest.raises(UserError, match="seed is given a value and searched"):
        search_space.read(write(tmp_path, {"seed": [1, 2]}, seed=3), {})
    path = write(tmp_path, {"learning_rate": RATE})
    runs = tmp_path / "runs"
    for words, message in (
        (("-m", "src.tune", "search", "-l", 0.1), "--learning_rate: "),
        (("src/main.py",), "python -m src.tune search --config"),
    ):
        completed = command("python", *words, "--config", path, "--runs", runs, check=2)
        assert completed.stderr.startswith("error: ")
        assert message in completed.stderr
        assert completed.stderr.count("\n") == 1
    assert not runs.exists()
