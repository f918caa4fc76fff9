"""RunConfig: names, ids, validation, YAML."""

import math
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.common.errors import InvalidValue, UserError
from src.common.option_fields import checked
from src.common.yaml_files import read_yaml
from src.config import RunConfig, from_mapping


def test_defaults_match_published_values() -> None:
    c = RunConfig()
    assert (c.base_dataset_path, c.num_epochs, c.batch_size) == ("./cifar-10", 80, 256)
    assert (c.model_type, c.scheduler, c.data_augmentation) == ("resnet", "exponential", False)
    assert (c.learning_rate, c.weight_decay, c.gamma) == (0.0001, 0.0001, 0.99)
    assert (c.val_freq, c.early_stopping_patience) == (1, 20)
    assert (c.optimizer, c.amsgrad, c.normalization) == ("adamw", True, "imagenet")
    assert (c.val_split, c.step_size, c.t_max, c.eta_min) == ("last_batch", 3, 10, 0)
    assert (c.rotation, c.flip, c.crop_padding) == (15, 0.5, 4)


def test_run_name_has_published_format() -> None:
    c = RunConfig(model_type="cnn", scheduler="step", data_augmentation=True)
    assert c.name == "cnn_aug_True_scheduler_step_lr_0.0001_wd_0.0001_gamma_0.99"
    assert replace(c, learning_rate=0.00001).name.count("lr_1e-05") == 1


def test_messages_tell_replicates_apart() -> None:
    one = RunConfig(model_type="cnn")
    assert one.title == one.name
    assert replace(one, seed=1000).title == f"{one.name} seed 1000"


# If one of these ids changes, existing runs are no longer found.
GOLDEN_IDS = [
    (RunConfig(), "467eb8d1f4"),
    (RunConfig(model_type="cnn", scheduler="cosine", data_augmentation=True), "3980de8d8b"),
    (RunConfig(base_dataset_path="synthetic", seed=7, dropout=0.25), "5d0bfdd49d"),
]


@pytest.mark.parametrize(("config", "expected"), GOLDEN_IDS)
def test_run_ids_match_golden_ids(config: RunConfig, expected: str) -> None:
    assert config.id == expected


@pytest.mark.parametrize(
    ("base", "ignored"),
    [
        ({"scheduler": "cosine"}, {"gamma": 0.5, "step_size": 7, "pct_start": 0.1}),
        ({"scheduler": "none"}, {"gamma": 0.5, "t_max": 3, "eta_min": 1e-5}),
        ({"scheduler": "step"}, {"t_max": 3, "anneal_strategy": "linear"}),
        ({"optimizer": "adamw"}, {"momentum": 0.5, "nesterov": True}),
        ({"optimizer": "sgd"}, {"amsgrad": False}),
        ({"data_augmentation": False}, {"rotation": 30, "flip": 0.1, "crop_padding": 2}),
        ({"val_split": "last_batch"}, {"val_size": 17, "split_seed": 3}),
        ({}, {"base_dataset_path": "/elsewhere", "device": "cpu", "keep_checkpoints": "all"}),
        ({}, {"checkpoint_minutes": 1}),
        ({"model_type": "a.py:Net"}, {"weights": "none", "freeze_backbone": False}),
    ],
)
def test_fields_that_cannot_matter_do_not_change_the_id(base: dict, ignored: dict) -> None:
    plain = RunConfig(**base)
    for name, value in ignored.items():
        assert RunConfig(**base, **{name: value}).id == plain.id, name
    assert RunConfig(**base, **ignored).canonical().id == plain.id


@pytest.mark.parametrize(
    ("base", "changed"),
    [
        ({"scheduler": "exponential"}, {"gamma": 0.5}),
        ({"scheduler": "step"}, {"step_size": 7}),
        ({"scheduler": "cosine"}, {"t_max": 7}),
        ({"scheduler": "onecycle"}, {"pct_start": 0.2}),
        ({"optimizer": "sgd"}, {"momentum": 0.5}),
        ({"data_augmentation": True}, {"rotation": 30}),
        ({"val_split": "random"}, {"split_seed": 3}),
        ({}, {"seed": 1}),
        ({}, {"num_epochs": 81}),
        ({}, {"max_images": 10}),
        ({}, {"dropout": 0.0}),
        ({}, {"hidden_units": 64}),
        ({}, {"batch_norm": False}),
        ({"batch_norm": False}, {"batch_norm": True}),
        ({}, {"precision": "float32"}),
        ({}, {"base_dataset_path": "synthetic"}),
        ({"model_type": "a.py:Net"}, {"model_option": "width=3"}),
        ({"model_type": "a.py:Net"}, {"model_digest": "0" * 16}),
        ({"model_type": "a.py:Net"}, {"model_type": "b.py:Net"}),
    ],
)
def test_fields_that_matter_change_the_id(base: dict, changed: dict) -> None:
    assert RunConfig(**{**base, **changed}).id != RunConfig(**base).id


def test_nesterov_needs_momentum_with_sgd_only() -> None:
    with pytest.raises(InvalidValue, match=r"momentum '0.0': expected a number above 0 with"):
        RunConfig(optimizer="sgd", nesterov=True, momentum=0.0)
    RunConfig(optimizer="sgd", nesterov=True)
    RunConfig(optimizer="sgd", momentum=0.0)
    RunConfig(nesterov=True, momentum=0.0)


def test_equal_numbers_have_equal_ids() -> None:
    text: Any = "1e-4"
    assert RunConfig(learning_rate=text).id == RunConfig(learning_rate=0.0001).id
    assert RunConfig(rotation=15, data_augmentation=True).id == RunConfig(data_augmentation=True).id


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0),
        ("learning_rate", "nan"),
        ("learning_rate", "inf"),
        ("learning_rate", "fast"),
        ("learning_rate", True),
        ("weight_decay", -1),
        ("gamma", 0),
        ("gamma", 1.01),
        ("num_epochs", 0),
        ("num_epochs", 1.5),
        ("num_epochs", "1e999"),
        ("batch_size", 2**70),
        ("val_freq", "two"),
        ("model_type", "resnt"),
        ("scheduler", "Step"),
        ("data_augmentation", "yes"),
        ("dropout", 1),
        ("hidden_units", 0),
        ("hidden_units", 1.5),
        ("batch_norm", "perhaps"),
        ("batch_norm", 1),
        ("base_dataset_path", ""),
        ("base_dataset_path", "a\nb"),
        ("seed", [1]),
    ],
)
def test_invalid_value_error_names_field_value_and_expectation(name: str, value: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        RunConfig(**{name: value})
    text = str(caught.value)
    assert text.startswith(f"{name} {str(value)!r}: expected ")
    assert "\n" not in text


@given(
    st.sampled_from([f.name for f in fields(RunConfig)]),
    st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.text())),
)
def test_any_value_is_accepted_or_gives_one_line_error(name: str, value: Any) -> None:
    line, stored = "", None
    try:
        stored = getattr(RunConfig(**{name: value}), name)
    except UserError as error:
        line = str(error)
    assert len(line.splitlines()) <= 1
    assert not (isinstance(stored, float) and not math.isfinite(stored))


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("no", False), ("none", None), ("null", None), ("'True'", True)],
)
def test_batch_norm_accepts_true_false_and_none(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"batch_norm: {text}\n")
    assert from_mapping(read_yaml(path), str(path)).batch_norm is value
    with pytest.raises(InvalidValue, match="batch_norm '2': expected True, False or none"):
        RunConfig(batch_norm=2)  # type: ignore[arg-type]


def test_yaml_errors_start_with_file_path(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    for text, part in [
        ("learning_rat: 1", "did you mean learning_rate"),
        ("gamma: 3", "gamma '3'"),
        ("- 1", "expected 'name: value' lines"),
        ("a: [", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=part) as caught:
            from_mapping(read_yaml(path), str(path))
        assert str(caught.value).startswith(str(path))
    with pytest.raises(UserError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")


def test_cifar10_dir_variable_sets_default_dataset_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", "/data/c10")
    assert from_mapping({}, "x").base_dataset_path == "/data/c10"
    assert from_mapping({"base_dataset_path": "here"}, "x").base_dataset_path == "here"


def test_defaults_pass_their_own_validation() -> None:
    """The constructor does not validate defaults, so they must be valid as they are."""
    for spec in fields(RunConfig):
        if spec.default is not MISSING:
            assert checked(spec, spec.default) == spec.default
            assert type(checked(spec, spec.default)) is type(spec.default)
