"""Weights from outside: what is read, what is refused, and that names do not matter."""

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


def renamed(state: State) -> State:
    """The same tensors in the same order under names that tell nothing."""
    names = [f"layer{number}" for number in range(len(state))]
    random.Random(0).shuffle(names)
    return {
        f"{name}.{COUNTER}" if ours.endswith(COUNTER) else name: tensor
        for name, (ours, tensor) in zip(names, state.items(), strict=True)
    }


def filled(model: nn.Module, seed: int) -> State:
    """A state dict of a model in which no two tensors are equal."""
    random_ = torch.Generator().manual_seed(seed)
    return {
        name: tensor if name.endswith(COUNTER) else torch.rand(tensor.shape, generator=random_)
        for name, tensor in model.state_dict().items()
    }


@pytest.mark.parametrize("name", model_types())
def test_any_names_will_do(name: str, tmp_path: Path) -> None:
    model = models.create(name)
    state = filled(model, 1)
    torch.save(renamed(state), tmp_path / "theirs.pt")
    load_into(model, read_state(tmp_path / "theirs.pt"), "theirs.pt")
    loaded = model.state_dict()
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_dead_taps_are_loaded_too() -> None:
    state = filled(models.create("resnet"), 2)
    model = replace_convolutions(models.create("resnet"))
    load_into(model, renamed(state), "x")
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_a_network_written_elsewhere_gives_the_same_logits() -> None:
    theirs = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * 8 * 8, 10)),
    )
    theirs.load_state_dict(filled(theirs, 3))
    ours = models.create("tinyvgg", hidden_units=8, batch_norm=True)
    load_into(ours, theirs.state_dict(), "x")
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), theirs.eval()(images))


def test_own_names_win_over_order() -> None:
    model = models.create("cifar10net")
    state = filled(model, 4)
    backwards = dict(reversed(state.items()))
    load_into(model, {k: v for k, v in backwards.items() if not k.endswith(COUNTER)}, "x")
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_usual_wrappings_are_taken_off(key: str | None, prefix: str, tmp_path: Path) -> None:
    state = models.create("tinyvgg", hidden_units=2).state_dict()
    inner: Any = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"epoch": 3, key: inner} if key else inner, tmp_path / "x.pt")
    read = read_state(tmp_path / "x.pt")
    assert list(read) == list(state)
    assert all(torch.equal(read[name], state[name]) for name in state)


def changed(change: str) -> State:
    state = renamed(models.create("tinyvgg", hidden_units=4).state_dict())
    names = list(state)
    if change == "shape":
        state[names[2]] = torch.zeros(4, 5, 3, 3)
    elif change == "more":
        state["extra"] = torch.zeros(7)
    else:
        del state[names[-1]]
    return state


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("shape", r"f: entry 3 does not fit: 'layer\d' is \(4, 5, 3, 3\), expected \(4, 4, 3, 3\)"),
        ("more", r"f: 'extra' \(7,\) is one entry too many"),
        ("less", r"f: ends before entry 10, 'head.bias' \(10,\)"),
    ],
)
def test_the_first_misfit_is_named(change: str, said: str) -> None:
    model = models.create("tinyvgg", hidden_units=4)
    before = filled(model, 5)
    model.load_state_dict(before)
    with pytest.raises(UserError, match=said):
        load_into(model, changed(change), "f")
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


class Evil:
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
            "code": Evil(),
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
def test_other_files_are_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad_file(tmp_path / "x.pt", kind)
    with pytest.raises(UserError) as caught:
        read_state(tmp_path / "x.pt")
    assert re.fullmatch(r".*x\.pt: .+", str(caught.value)), "one line"
    assert not (tmp_path / "evil").exists()


def test_zero_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").touch()
    with pytest.raises(UserError, match=r"x\.pt: not a state dict"):
        read_state(tmp_path / "x.pt")
