"""Names of own architectures: what they refer to, their digest, and what is wrong with them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.common.errors import InvalidValue, UserError
from src.common.model_options import canonical, parse
from src.common.model_source import (
    ModelReference,
    ModelSource,
    find,
    model_name,
    reference_of,
    type_of_name,
)
from src.common.paths import file_name
from src.config import RunConfig, from_mapping, with_digests
from src.main import main
from src.sweep import grid, sets

NET = "class Net:\n    pass\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with my_nets.py the current one, with a package beside it."""
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_nets.py").write_text(NET)
    package = tmp_path / "zoo" / "nets"
    package.mkdir(parents=True)
    (tmp_path / "zoo" / "__init__.py").touch()
    (tmp_path / "zoo" / "blocks.py").write_text("class Block:\n    pass\n")
    (package / "small.py").write_text(f"from zoo.blocks import Block\n{NET}")
    return tmp_path


def source(name: str) -> ModelSource:
    reference = reference_of(name)
    assert reference
    return find(reference)


def own(**settings: Any) -> RunConfig:
    [config] = with_digests([RunConfig(**{"model_type": "my_nets.py:Net", **settings})])
    return config


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("my_nets.py:Net", "my_nets.Net"),
        ("../some/where/my_nets.py:Net", "my_nets.Net"),
        ("/abs/my_nets.py:Net", "my_nets.Net"),
        ("zoo.nets.small:make", "zoo.nets.small.make"),
        ("torchvision:resnet18", "torchvision.resnet18"),
        ("timm:vit_tiny.augreg", "timm.vit_tiny.augreg"),
        ("resnet", "resnet"),
    ],
)
def test_model_names_are_safe_file_names(name: str, shown: str) -> None:
    config = RunConfig(model_type=name)
    assert config.model_name == model_name(name) == config.group == shown == file_name(shown)
    assert config.name.startswith(f"{shown}_aug_")
    assert config.cell == file_name(config.cell)
    assert model_name(type_of_name(shown)) == shown


@pytest.mark.parametrize(
    "name",
    [
        *("my_nets.py", "my_nets.py:", ":Net", "a b.py:Net", "a.py:Net()", "x:y:z", "a/b:Net"),
        *("a.py:N\n", "timm:hf-hub:someone/model", "timm:../x", f"{'a' * 80}.py:Net"),
    ],
)
def test_names_of_no_architecture_are_rejected(name: str) -> None:
    with pytest.raises(InvalidValue, match="model_type"):
        RunConfig(model_type=name)


def test_digest_is_of_the_content_and_not_of_the_place(here: Path) -> None:
    first = source("my_nets.py:Net")
    (here / "deep").mkdir()
    (here / "deep" / "my_nets.py").write_text(NET)
    assert source("deep/my_nets.py:Net").digest == first.digest
    assert source(f"{here}/my_nets.py:Net").digest == first.digest
    assert source("my_nets:Net").digest == first.digest
    (here / "my_nets.py").write_text(f"{NET}# edited\n")
    assert source("my_nets.py:Net").digest != first.digest


def test_digest_of_a_module_is_of_its_whole_package(here: Path) -> None:
    first = source("zoo.nets.small:Net")
    assert set(first.files) == {"zoo/__init__.py", "zoo/blocks.py", "zoo/nets/small.py"}
    (here / "zoo" / "__pycache__").mkdir()
    (here / "zoo" / "__pycache__" / "x.py").write_text("x = 1")
    (here / "zoo" / "notes.txt").write_text("no source")
    assert source("zoo.nets.small:Net").digest == first.digest
    (here / "zoo" / "blocks.py").write_text("class Block:\n    width = 3\n")
    assert source("zoo.nets.small:Net").digest != first.digest


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.py:Net", NET, "No such file or directory in "),
        ("my_nets.py:Nett", NET, "no Nett in my_nets.py; did you mean Net? (known: Net)"),
        ("my_nets.py:Net", "x = 1\n", "no Net in my_nets.py (it has no class or function)"),
        ("my_nets.py:Net", "x = 1\nclass Net(:\n", "my_nets.py, line 2: invalid syntax"),
        ("my_nets.py:Net", "\0", "my_nets.py"),
        ("my_nets.py:Net", f"import zoo.blocks\n{NET}", "my_nets.py imports zoo beside it"),
        ("my_nets.py:Net", f"from . import x\n{NET}", "name the package that holds both"),
        ("nowhere.nets:Net", NET, "no nowhere.py and no package nowhere in "),
        ("zoo.nets.smal:Net", NET, "no module zoo.nets.smal; did you mean zoo.nets.small?"),
        ("src.models.cnn:CNNBasic", NET, "src is this project"),
    ],
)
def test_wrong_source_is_one_line_and_status_2(
    here: Path, expect_bad_input: Callable[..., str], name: str, text: str, message: str
) -> None:
    (here / "my_nets.py").write_text(text)
    line = expect_bad_input(main, "-m", name, "-d", "synthetic", "--runs", here / "runs")
    assert message in line
    assert f"--model_type {name!r}" in line
    assert not (here / "runs").exists()


def test_names_that_code_may_bind_are_not_rejected(here: Path) -> None:
    for text in ("from x import *\n", "if True:\n    Net = dict\n", "from y import Z as Net\n"):
        (here / "my_nets.py").write_text(text)
        assert source("my_nets.py:Net").reference == ModelReference("my_nets.py", "Net")


# ids


def test_id_follows_from_config_json_without_the_source(here: Path) -> None:
    config = own()
    stored = config.stored()
    (here / "my_nets.py").unlink()
    assert from_mapping(stored, "config.json").id == config.id
    assert len(str(stored["model_digest"])) == 16


def test_id_counts_name_and_digest_and_not_the_folder_of_the_file(here: Path) -> None:
    config = own()
    (here / "deep").mkdir()
    (here / "my_nets.py").rename(here / "deep" / "my_nets.py")
    moved = own(model_type="deep/my_nets.py:Net")
    assert (moved.id, moved.cell, moved.config_id) == (config.id, config.cell, config.config_id)
    assert replace(config, model_digest="0" * 16).id != config.id
    assert replace(config, model_type="deep/my_nets.py:Other").id != config.id


def test_order_and_spelling_of_options_do_not_change_the_id(here: Path) -> None:
    texts = ["width=16,rate=0.1,deep=true", "deep=True,rate=.10,width=16"]
    one, other = (own(model_option=text) for text in texts)
    of_mapping = own(model_option={"rate": 0.1, "width": 16, "deep": True})
    assert one.id == other.id == of_mapping.id != own().id
    assert parse(one.model_option) == {"deep": True, "rate": 0.1, "width": 16}
    assert type(parse("a=1.0")["a"]) is float
    assert parse("a=gelu,b=1e-3,c=1e999") == {"a": "gelu", "b": 0.001, "c": "1e999"}


@pytest.mark.parametrize(
    "given", ["width", "width=", "=3", "a=1,a=2", "a=1;b=2", "a= 1", {}, [], 3]
)
def test_values_that_are_no_options_are_rejected(given: Any) -> None:
    assert canonical(given) is None
    with pytest.raises(InvalidValue, match="model_option"):
        RunConfig(model_type="my_nets.py:Net", model_option=given)


def test_settings_that_do_not_fit_the_architecture_are_rejected() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model_digest": "0" * 16}, "none with resnet"),
        ({"model_type": "torchvision:alexnet", "model_digest": "0" * 16}, "none with torchvision"),
        ({"model_type": "a.py:Net", "convolution": "winograd"}, "auto or direct with a.py:Net"),
    ]
    for settings, message in cases:
        with pytest.raises(InvalidValue, match=message):
            RunConfig(**settings)


# sets, grids and recipes


def test_set_line_has_no_digest_and_a_set_takes_the_current_one(here: Path) -> None:
    config = own(model_option="width=3,depth=2", seed=4)
    assert sets.line(config).endswith(" model_option=depth=2,width=3 seed=4")
    sets.write([[config]], here / "sets")
    assert sets.read(here / "sets" / "hyperparameters_1.txt") == [config]
    (here / "my_nets.py").write_text(f"{NET}# edited\n")
    [edited] = sets.read(here / "sets" / "hyperparameters_1.txt")
    assert edited == own(model_option="width=3,depth=2", seed=4) != config


def test_digest_is_not_given_by_hand(here: Path, expect_bad_input: Callable[..., str]) -> None:
    line = f"{sets.line(own())} model_digest={'0' * 16}"
    with pytest.raises(UserError, match="unknown setting 'model_digest'"):
        sets.parse(line, "a set")
    with pytest.raises(UserError, match="unknown setting 'model_digest'"):
        grid.expand({"model_type": "my_nets.py:Net", "model_digest": "0" * 16})
    (here / "run.yaml").write_text(f"model_digest: '{'0' * 16}'\n")
    assert "set by the program" in expect_bad_input(main, "--config", here / "run.yaml")
    assert "unknown argument" in expect_bad_input(main, "--model_digest", "0" * 16)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"width": [4, 8], "act": "gelu"}, ["act=gelu,width=4", "act=gelu,width=8"]),
        (["width=4", "width=8,act=gelu"], ["width=4", "act=gelu,width=8"]),
        ([{"width": 4}, {"width": 8, "deep": True}], ["width=4", "deep=true,width=8"]),
        ("width=4", ["width=4"]),
        ({"a": [1, 2], "b": [1, 2]}, ["a=1,b=1", "a=1,b=2", "a=2,b=1", "a=2,b=2"]),
    ],
)
def test_grid_varies_options(here: Path, given: object, expected: list[str]) -> None:
    cells = grid.expand({"model_type": "my_nets.py:Net", "model_option": given})
    assert [cell.model_option for cell in cells] == expected
    assert {cell.model_digest for cell in cells} == {own().model_digest}


def test_grid_mixes_own_and_registered_architectures(here: Path) -> None:
    block = {
        "model_type": ["cnn", "my_nets.py:Net"],
        "model_option": {"width": [4, 8]},
        "when": {"model_option": {"model_type": "my_nets.py:Net"}},
        "exclude": {"model_option": "width=8"},
    }
    cells = grid.expand(block)
    assert [(c.model_type, c.model_option) for c in cells] == [
        ("cnn", None),
        ("my_nets.py:Net", "width=4"),
    ]
