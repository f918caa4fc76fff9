"""Loading state dicts of other code: matching by order and shape, wrappers, invalid files."""

import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src import models
from src.common.errors import UserError
from src.config import model_types
from src.cpu.convolutions import replace_convolutions
from src.models.state_dicts import load_into, read_state

State = dict[str, Tensor]
COUNTER = "num_batches_tracked"


def with_arbitrary_names(state: State) -> State:
    """Return the same tensors in the same order under arbitrary names."""
    names = [f"layer{number}" for number in range(len(state))]
    random.Random(0).shuffle(names)
    return {
        f"{name}.{COUNTER}" if original.endswith(COUNTER) else name: tensor
        for name, (original, tensor) in zip(names, state.items(), strict=True)
    }


def random_state(model: nn.Module, seed: int) -> State:
    """Return a state dict of a model with random values."""
    random_ = torch.Generator().manual_seed(seed)
    return {
        name: tensor if name.endswith(COUNTER) else torch.rand(tensor.shape, generator=random_)
        for name, tensor in model.state_dict().items()
    }


@pytest.mark.parametrize("name", model_types())
def test_state_dict_with_arbitrary_names_is_loaded(name: str, tmp_path: Path) -> None:
    model = models.create(name)
    state = random_state(model, 1)
    torch.save(with_arbitrary_names(state), tmp_path / "theirs.pt")
    load_into(model, read_state(tmp_path / "theirs.pt"), "theirs.pt")
    loaded = model.state_dict()
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_state_dict_is_loaded_into_whole_map_convolutions() -> None:
    state = random_state(models.create("resnet"), 2)
    model = replace_convolutions(models.create("resnet"))
    load_into(model, with_arbitrary_names(state), "x")
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_weights_of_equivalent_network_give_same_logits() -> None:
    other_model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * 8 * 8, 10)),
    )
    other_model.load_state_dict(random_state(other_model, 3))
    model = models.create("tinyvgg", hidden_units=8, batch_norm=True)
    load_into(model, other_model.state_dict(), "x")
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(images), other_model.eval()(images))


def test_matching_names_take_precedence_over_order() -> None:
    model = models.create("cifar10net")
    state = random_state(model, 4)
    backwards = dict(reversed(state.items()))
    load_into(model, {k: v for k, v in backwards.items() if not k.endswith(COUNTER)}, "x")
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_common_keys_and_prefixes_are_stripped(
    key: str | None, prefix: str, tmp_path: Path
) -> None:
    state = models.create("tinyvgg", hidden_units=2).state_dict()
    inner: Any = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"epoch": 3, key: inner} if key else inner, tmp_path / "x.pt")
    read = read_state(tmp_path / "x.pt")
    assert list(read) == list(state)
    assert all(torch.equal(read[name], state[name]) for name in state)


def changed(change: str) -> State:
    state = with_arbitrary_names(models.create("tinyvgg", hidden_units=4).state_dict())
    names = list(state)
    if change == "shape":
        state[names[2]] = torch.zeros(4, 5, 3, 3)
    elif change == "more":
        state["extra"] = torch.zeros(7)
    else:
        del state[names[-1]]
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shape", r"f: entry 3 does not fit: 'layer\d' is \(4, 5, 3, 3\), expected \(4, 4, 3, 3\)"),
        ("more", r"f: 'extra' \(7,\) is one entry too many"),
        ("less", r"f: ends before entry 10, 'head.bias' \(10,\)"),
    ],
)
def test_first_mismatched_entry_is_named_and_nothing_loaded(change: str, message: str) -> None:
    model = models.create("tinyvgg", hidden_units=4)
    before = random_state(model, 5)
    model.load_state_dict(before)
    with pytest.raises(UserError, match=message):
        load_into(model, changed(change), "f")
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


class MaliciousPickle:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch evil",)


def bad_file(path: Path, kind: str) -> None:
    if kind == "truncated":
        torch.save({"a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:1500])
    elif kind == "bytes":
        path.write_bytes(bytes(range(256)) * 9)
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        content = {
            "code": MaliciousPickle(),
            "module": nn.Linear(2, 2),
            "list": [torch.zeros(2)],
            "numbers": {"lr": 0.1},
            "empty": {},
            "wrapped": {"state_dict": {"lr": 0.1}},
        }[kind]
        torch.save(content, path)


@pytest.mark.parametrize(
    "kind",
    [
        *("truncated", "bytes", "folder", "missing", "code", "module", "list", "numbers"),
        *("empty", "wrapped"),
    ],
)
def test_invalid_weights_file_is_rejected_in_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad_file(tmp_path / "x.pt", kind)
    with pytest.raises(UserError) as caught:
        read_state(tmp_path / "x.pt")
    assert re.fullmatch(r".*x\.pt: .+", str(caught.value)), "one line"
    assert not (tmp_path / "evil").exists()


def test_empty_weights_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "x.pt").touch()
    with pytest.raises(UserError, match=r"x\.pt: not a state dict"):
        read_state(tmp_path / "x.pt")
