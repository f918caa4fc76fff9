"""Grids and set files: expansion, writing, reading, errors."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.common.data_names import default_dataset_path
from src.common.errors import UserError
from src.common.paths import SETS_DIR
from src.config import RunConfig
from src.sweep import grid, sets


def test_reference_grid_has_864_runs_in_18_sets_of_48() -> None:
    configs = grid.expand(grid.REFERENCE)
    by_set = list(grid.split_into_sets(configs))
    assert [len(part) for part in by_set] == [48] * 18
    assert len({sets.line(config) for config in configs}) == 864
    assert len({config.id for config in configs}) == 672
    for part in by_set:
        assert len({(c.model_type, c.scheduler, c.data_augmentation) for c in part}) == 1
    assert sets.line(configs[0]) == "80 256 resnet exponential False 0.01 0.01 0.95"
    assert sets.line(configs[1]) == "80 256 resnet exponential False 0.01 0.01 0.97"
    assert sets.line(configs[-1]) == "80 256 vit cosine True 1e-05 1e-05 0.99"


def test_committed_set_files_match_reference_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR10_DIR", "/data of/this machine")
    sets.write(grid.split_into_sets(grid.expand(grid.REFERENCE)), tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(os.listdir(SETS_DIR))
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (SETS_DIR / path.name).read_bytes()


def test_written_set_file_is_read_back(tmp_path: Path) -> None:
    base = RunConfig(base_dataset_path=default_dataset_path())
    configs = [
        base,
        replace(base, seed=3, optimizer="sgd", nesterov=True, dropout=0.0),
        replace(base, base_dataset_path="synthetic", learning_rate=1e-5),
        replace(base, model_type="tinyvgg", hidden_units=8, batch_norm=True),
        replace(base, model_type="tinyvgg", batch_norm=False),
    ]
    [path] = sets.write([configs], tmp_path)
    assert sets.read(path) == configs


def test_comments_and_empty_lines_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("# a sweep\n\n80 256 cnn step True 0.1 0 0.9 seed=4 # the best\n")
    [config] = sets.read(path)
    assert (config.model_type, config.weight_decay, config.seed) == ("cnn", 0, 4)


PATHS = (
    "/data of/this machine",
    "/home/o'brien/cifar 10",
    "/home/o'brien/cifar",
    'a "b" c',
    "'quoted'",
    "a#b",
    "back\\slash $HOME `id` $(id) *",
    " a ",
    "/\u00fcber/\u6570\u636e",
    "a=b c",
)


@pytest.mark.parametrize("path", PATHS)
def test_path_is_read_back_as_a_shell_reads_it(tmp_path: Path, path: str) -> None:
    config = RunConfig(base_dataset_path=path, seed=3)
    [written] = sets.write([[config]], tmp_path)
    assert sets.read(written) == [config]
    assert sets.parse(f"{sets.line(config)}  # 'a comment", "here") == config
    script = f"printf '%s\\n' {sets.line(config)}"
    printed = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert f"base_dataset_path={path}" in printed.stdout.split("\n")


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_any_path_is_read_back(path: str) -> None:
    config = RunConfig(base_dataset_path=path if path.isprintable() else repr(path))
    assert sets.parse(sets.line(config), "here") == config


def test_quote_within_a_word_stands_for_itself() -> None:
    """As in lines that earlier versions wrote."""
    for path in ("/home/o'brien/cifar", "a\\b", 'a"b'):
        assert sets.parse(f"{VALID_LINE} base_dataset_path={path}", "").base_dataset_path == path


VALID_LINE = "80 256 resnet step False 0.01 0.01 0.95"


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("80 256 resnet step False 0.01 0.01", "expected num_epochs batch_size"),
        (
            VALID_LINE.replace("80", "eighty"),
            "num_epochs 'eighty': expected a whole number at least 1",
        ),
        (VALID_LINE.replace("resnet", "lenet"), "model_type 'lenet': expected one of resnet"),
        (VALID_LINE.replace("False", "maybe"), "data_augmentation 'maybe': expected True or False"),
        (VALID_LINE + " 7", "'7': expected key=value"),
        (VALID_LINE + " sede=7", "unknown setting 'sede'; did you mean seed"),
        (VALID_LINE + " seed=7 seed=8", "seed is given twice"),
        (VALID_LINE + " gamma=0.5", "gamma is given twice"),
        (VALID_LINE + " seed=", "seed ''"),
        ("$(id) " + VALID_LINE[3:], "num_epochs '$(id)'"),
        ("../../x", "expected num_epochs"),
        (VALID_LINE + " base_dataset_path='/a b", "expected an end of the quote"),
        (VALID_LINE + " base_dataset_path='/a'\"b", "expected an end of the quote"),
    ],
)
def test_malformed_line_error_names_file_and_line(tmp_path: Path, line: str, part: str) -> None:
    path = tmp_path / "hyperparameters_1.txt"
    path.write_text(f"{VALID_LINE}\n{line}\n")
    with pytest.raises(UserError) as caught:
        sets.read(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert part in str(caught.value)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
def test_any_line_is_parsed_or_gives_one_line_error(text: str) -> None:
    line = ""
    try:
        sets.parse(text, "here")
    except UserError as error:
        line = str(error)
    assert len(line.splitlines()) <= 1


def test_write_rejects_folder_with_set_files_of_larger_grid(tmp_path: Path) -> None:
    sets.write([[RunConfig()], [RunConfig(seed=1)]], tmp_path)
    with pytest.raises(UserError, match=r"hyperparameters_2\.txt, which is not of this grid"):
        sets.write([[RunConfig(seed=2)]], tmp_path)
    assert sets.read(tmp_path / "hyperparameters_1.txt")[0].seed == 0


def test_find_accepts_only_valid_set_numbers(tmp_path: Path) -> None:
    sets.write([[RunConfig()]] * 12, tmp_path)
    assert sets.find(tmp_path, "12").name == "hyperparameters_12.txt"
    assert [n for n, _ in sets.numbered(tmp_path)] == list(range(1, 13))
    for number in (
        "13",
        "0",
        "-1",
        "1.0",
        "x",
        "",
        "../hyperparameters_1",
        "1/../2",
        "\u0661",
        "9" * 5000,
    ):
        with pytest.raises(UserError, match="expected a number, 1 to 12"):
            sets.find(tmp_path, number)


def test_grid_file_is_expanded_and_validated(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("seed: [1, 2]\nmodel_type: [cnn, vit]\nlearning_rate: [1e-3]\n")
    configs = grid.expand(grid.read(path), str(path))
    assert [(c.model_type, c.seed) for c in configs] == [
        *(("cnn", 1), ("cnn", 2), ("vit", 1), ("vit", 2))
    ]
    assert {c.learning_rate for c in configs} == {0.001}
    assert [len(part) for part in grid.split_into_sets(configs, 3)] == [3, 1]
    for text, part in [
        ("modle: 1", "unknown setting 'modle'"),
        ("gamma: []", "gamma has no values"),
        ("gamma: [2]", "gamma '2': expected"),
        ("seed: [{a: 1}]", "seed"),
        (
            "\n".join(f"{n}: {list(range(1, 100))}" for n in ("seed", "batch_size", "val_freq")),
            "at most",
        ),
    ]:
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            grid.expand(grid.read(path), str(path))
        assert str(caught.value).startswith(str(path))
        assert part in str(caught.value)
