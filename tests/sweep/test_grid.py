"""Grids: the cells of zips, conditions, ranges, samples, exclusions and several blocks."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.common.errors import UserError
from src.config import RunConfig
from src.sweep import grid

# name: (YAML, settings to look at, their values in each cell, in order)
CASES: dict[str, tuple[str, str, list[tuple[Any, ...]]]] = {
    "a mapping is a product": (
        "model_type: [resnet, cnn]\nseed: [2, 1]",
        "model_type seed",
        [("resnet", 2), ("resnet", 1), ("cnn", 2), ("cnn", 1)],
    ),
    "a mapping keeps values that stand twice": ("seed: [1, 1]", "seed", [(1,), (1,)]),
    "an empty mapping is one cell of defaults": ("{}", "model_type seed", [("resnet", 0)]),
    "a list of one block": ("- seed: [1, 2]", "seed", [(1,), (2,)]),
    "blocks stand in their order": (
        "- {model_type: vit, seed: [1, 2]}\n- {model_type: cnn, seed: 3}",
        "model_type seed",
        [("vit", 1), ("vit", 2), ("cnn", 3)],
    ),
    "a cell of an earlier block is not repeated": (
        "- {learning_rate: [0.1, 0.01], seed: 1}\n- {learning_rate: [1e-1, 1e-3], seed: [1, 2]}",
        "learning_rate seed",
        [(0.1, 1), (0.01, 1), (0.1, 2), (0.001, 1), (0.001, 2)],
    ),
    "in a list of blocks a value counts once": ("- seed: [2, 1, 2]", "seed", [(2,), (1,)]),
    "a given default is the same cell as none": (
        "- gamma: 0.99\n- scheduler: exponential\n- gamma: 0.9",
        "gamma scheduler",
        [(0.99, "exponential"), (0.9, "exponential")],
    ),
    "a zip goes together": (
        "zip: {learning_rate: [0.1, 0.01], weight_decay: [1e-3, 1e-4]}\nseed: [0, 1]",
        "learning_rate weight_decay seed",
        [(0.1, 0.001, 0), (0.1, 0.001, 1), (0.01, 0.0001, 0), (0.01, 0.0001, 1)],
    ),
    "two zips are a product": (
        "zip:\n- {seed: [1, 2], split_seed: [3, 4]}\n- {flip: [0.1, 0.2], hue: [0.3, 0.4]}",
        "seed split_seed flip hue",
        [(1, 3, 0.1, 0.3), (1, 3, 0.2, 0.4), (2, 4, 0.1, 0.3), (2, 4, 0.2, 0.4)],
    ),
    "a zip sorts by its first setting in the order of grids": (
        "learning_rate: [0.1, 0.01]\nzip: {seed: [1, 2], model_type: [vit, cnn]}",
        "model_type seed learning_rate",
        [("vit", 1, 0.1), ("vit", 1, 0.01), ("cnn", 2, 0.1), ("cnn", 2, 0.01)],
    ),
    "a condition makes no idle combination": (
        "scheduler: [step, cosine]\nstep_size: [3, 5, 10]\nwhen: {step_size: {scheduler: step}}",
        "scheduler step_size",
        [("step", 3), ("step", 5), ("step", 10), ("cosine", 3)],
    ),
    "the values of a condition may be a list": (
        "scheduler: [step, exponential, cosine]\ngamma: [0.9, 0.8]\n"
        "when: {gamma: {scheduler: [step, exponential]}}",
        "scheduler gamma",
        [
            *[("step", 0.9), ("step", 0.8), ("exponential", 0.9), ("exponential", 0.8)],
            ("cosine", 0.99),
        ],
    ),
    "all settings of a condition must hold": (
        "scheduler: [step, cosine]\nmodel_type: [vit, cnn]\nstep_size: [5, 7]\n"
        "when: {step_size: {scheduler: step, model_type: cnn}}",
        "model_type scheduler step_size",
        [
            *[("vit", "step", 3), ("vit", "cosine", 3)],
            *[("cnn", "step", 5), ("cnn", "step", 7), ("cnn", "cosine", 3)],
        ],
    ),
    "a condition may depend on a conditional setting": (
        "seed: [7, 8]\nstep_size: [5, 9]\nmodel_type: [cnn, vit]\n"
        "when: {seed: {step_size: 5}, step_size: {model_type: cnn}}",
        "model_type step_size seed",
        [("cnn", 5, 7), ("cnn", 9, 0), ("cnn", 5, 8), ("vit", 3, 0)],
    ),
    "a conditional part of a zip": (
        "scheduler: [step, cosine]\nzip: {seed: [1, 2, 2], step_size: [4, 5, 6]}\n"
        "when: {step_size: {scheduler: step}}",
        "scheduler seed step_size",
        [("step", 1, 4), ("step", 2, 5), ("step", 2, 6), ("cosine", 1, 3), ("cosine", 2, 3)],
    ),
    "a range in log, with numbers that YAML reads as text": (
        "learning_rate: {from: 1e-5, to: 1e-1, steps: 5, log: true}",
        "learning_rate",
        [(0.00001,), (0.0001,), (0.001,), (0.01,), (0.1,)],
    ),
    "numbers in a range have six digits": (
        "learning_rate: {from: 0.01, to: 0.1, steps: 3, log: true}\n"
        "weight_decay: {from: 0, to: 1, steps: 4}",
        "learning_rate weight_decay",
        [
            *[(0.01, 0), (0.01, 0.333333), (0.01, 0.666667), (0.01, 1)],
            *[(0.0316228, 0), (0.0316228, 0.333333), (0.0316228, 0.666667), (0.0316228, 1)],
            *[(0.1, 0), (0.1, 0.333333), (0.1, 0.666667), (0.1, 1)],
        ],
    ),
    "whole numbers of a range stand once": (
        "- batch_size: {from: 2, to: 5, steps: 7}\n- seed: {from: 1, to: 64, steps: 7, log: true}",
        "batch_size seed",
        [
            *[(2, 0), (3, 0), (4, 0), (5, 0)],
            *[(256, 1), (256, 2), (256, 4), (256, 8), (256, 16), (256, 32), (256, 64)],
        ],
    ),
    "a range in a zip": (
        "zip: {seed: {from: 1, to: 3, steps: 3}, flip: [0.5, 0.25, 0]}",
        "seed flip",
        [(1, 0.5), (2, 0.25), (3, 0)],
    ),
    "cells that match an exclusion are left out": (
        "model_type: [vit, cnn]\nlearning_rate: [0.01, 0.001]\n"
        "exclude: [{model_type: vit, learning_rate: 0.01}]",
        "model_type learning_rate",
        [("vit", 0.001), ("cnn", 0.01), ("cnn", 0.001)],
    ),
    "exclusions with lists, of which any counts": (
        "model_type: [vit, cnn]\nseed: [1, 2, 3]\n"
        "exclude:\n- {model_type: vit, seed: [1, 3]}\n- {model_type: cnn, seed: 2}",
        "model_type seed",
        [("vit", 2), ("cnn", 1), ("cnn", 3)],
    ),
    "an exclusion sees the default of an idle setting": (
        "scheduler: [step, cosine]\nstep_size: [3, 5]\nwhen: {step_size: {scheduler: step}}\n"
        "exclude: {step_size: 3}",
        "scheduler step_size",
        [("step", 5)],
    ),
    "a sample of all cells is all cells in order": (
        "model_type: [vit, cnn]\nseed: [1, 2]\nsample: 3\nexclude: {model_type: vit, seed: 2}",
        "model_type seed",
        [("vit", 1), ("cnn", 1), ("cnn", 2)],
    ),
    "a sample of all values of a range": (
        "seed: {from: 5, to: 8}\nsample: 4",
        "seed",
        [(5,), (6,), (7,), (8,)],
    ),
}


def cells(text: str, names: str, tmp_path: Path) -> list[tuple[Any, ...]]:
    """Return the values of some settings in each cell of a grid file."""
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    configs = grid.expand(grid.read(path), str(path))
    return [tuple(getattr(config, name) for name in names.split()) for config in configs]


@pytest.mark.parametrize("name", CASES)
def test_grid_gives_these_cells(name: str, tmp_path: Path) -> None:
    text, names, expected = CASES[name]
    assert cells(text, names, tmp_path) == expected


ZIP = "zip: {learning_rate: [0.1, 0.01], weight_decay: [0.1]}"
STEP = "scheduler: [step, cosine]\nstep_size: [3, 5]\n"

# (YAML, the error after the name of the file)
MISTAKES = [
    ("[]", ": expected 'name: value' lines, or a list of blocks"),
    ("- seed: 1\n- 7", ": block 2: expected 'name: value' lines"),
    ("- seed: 1\n- sed: 2", ": block 2: unknown setting 'sed'; did you mean seed"),
    ("smaple: 3", ": unknown setting 'smaple'; did you mean sample"),
    ("- seed: 1\n- seed: []", ": block 2: seed has no values"),
    ("- gamma: [0.5, 2]", ": block 1: gamma '2': expected a number above 0 and at most 1"),
    (
        f"- seed: 1\n- {ZIP}",
        ": block 2, zip: lists of unequal length: learning_rate has 2, weight_decay has 1; "
        "expected equally many values",
    ),
    (ZIP, ": zip: lists of unequal length"),
    ("zip: [seed]", ": zip: expected a mapping, such as {learning_rate: "),
    ("zip: {}", ": zip: expected a mapping"),
    ("zip: {sed: [1]}", ": zip: unknown setting 'sed'; did you mean seed"),
    ("zip: {gamma: [2]}", ": zip: gamma '2': expected a number"),
    ("zip: {seed: [1]}\nseed: 3", ": zip: seed is given twice"),
    (
        "zip: {seed: {from: 1, to: 3}}\nsample: 1",
        ": zip, seed: a range without steps; expected steps",
    ),
    (f"{STEP}when: step", ": when: expected a mapping, such as {step_size: {scheduler: step}}"),
    (f"{STEP}when: {{step_size: step}}", ": when, step_size: expected a mapping"),
    (f"{STEP}when: {{stepsize: {{scheduler: step}}}}", ": when: unknown setting 'stepsize'"),
    (
        f"{STEP}when: {{step_size: {{schedule: step}}}}",
        ": when, step_size: unknown setting 'schedule'; did you mean scheduler",
    ),
    (
        "- seed: 1\n- {scheduler: step, step_size: [3, 5], when: {step_size: {scheduler: stp}}}",
        ": block 2, when, step_size: scheduler 'stp': expected one of exponential, step",
    ),
    (
        f"{STEP}when: {{step_size: {{scheduler: onecycle}}}}",
        ": when, step_size: scheduler is never onecycle here; it is step, cosine",
    ),
    (
        f"{STEP}when: {{gamma: {{scheduler: step}}}}",
        ": when, gamma: gamma is no setting of this block",
    ),
    (
        f"{STEP}when: {{step_size: {{scheduler: step}}, scheduler: {{step_size: 5}}}}",
        ": when: scheduler and step_size depend on each other",
    ),
    (
        "zip: {seed: [1], gamma: [1]}\nwhen: {seed: {gamma: 1}}",
        ": when, seed: it depends on gamma, which it goes together with",
    ),
    (
        "gamma: {from: 0.1, to: 1}\nseed: 1\nsample: 1\nwhen: {seed: {gamma: 1}}",
        ": when, seed: gamma is drawn from a range",
    ),
    ("- seed: {form: 1, to: 2}", ": block 1, seed: unknown key 'form' of a range; did you mean fr"),
    ("seed: {from: 1, steps: 2}", ": seed: a range without 'to'; expected from, to, and steps"),
    ("seed: {from: 1, to: 2.5, steps: 2}", ": seed, to: seed '2.5': expected a whole number"),
    ("gamma: {from: 1e-1, to: 2, steps: 2}", ": gamma, to: gamma '2': expected a number above 0"),
    ("seed: {from: 2, to: 1, steps: 2}", ": seed: from 2 to 1: expected a number, and a larger"),
    ("seed: {from: 1, to: 2, steps: 1}", ": seed, steps: '1': expected a whole number, 2 to"),
    ("seed: {from: 1, to: 2, steps: 2, log: 1}", ": seed: log '1': expected true or false"),
    (
        "seed: {from: 0, to: 2, steps: 2, log: true}",
        ": seed: from 0: expected a number above 0, since log is true",
    ),
    ("seed: {from: 1, to: 2}", ": seed: a range without steps is for a block's sample"),
    ("model_type: {from: cnn, to: vit, steps: 2}", ": model_type: a range is for numbers"),
    ("seed: [1, 2]\nsample: 0", ": sample: '0': expected a whole number, 1 to 10000"),
    ("seed: [1, 2]\nsample_seed: 2", ": sample_seed without sample"),
    ("seed: 1\nsample: 1\nsample_seed: -1", ": sample_seed: '-1': expected a whole number, 0 to"),
    (
        "- seed: [1, 2]\n  sample: 3",
        ": block 1, sample: 3 cells of 2 possible ones; expected at most 2",
    ),
    (
        "seed: {from: 1, to: 3}\nsample: 4",
        ": sample: 4 cells, but 10080 draws found 3 different ones; expected fewer",
    ),
    ("seed: 1\nexclude: 1", ": exclude: expected a mapping, such as {model_type: vit, "),
    ("seed: 1\nexclude: []", ": exclude: expected a mapping"),
    (
        "- seed: [1, 2]\n  exclude: [{seed: 1}, {seed: 3}]",
        ": block 1, exclude 2: seed is never 3 here; it is 1, 2",
    ),
    (
        "zip: {seed: [1, 2], gamma: [0.5, 1]}\nexclude: {seed: 1, gamma: 1}",
        ": exclude 1: no cell has these values together",
    ),
    ("seed: [1, 2]\nexclude: {seed: [1, 2]}", ": exclude: every cell is excluded"),
    (
        "seed: {from: 1, to: 999, steps: 999}\nsplit_seed: {from: 1, to: 999, steps: 999}",
        ": 998001 combinations or more; expected at most 100000, or a sample",
    ),
    ("- {convolution: winograd, cpu_kernels: false}", ": block 1: convolution 'winograd': "),
]


@pytest.mark.parametrize(("text", "part"), MISTAKES)
def test_mistake_gives_one_line_with_its_place(text: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        cells(text, "seed", tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'grid.yaml'}{part}")
    assert len(message.splitlines()) == 1


def test_blocks_together_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "MAX_CELLS", 3)
    assert len(cells("- seed: [1, 2]\n- seed: [2, 3]", "seed", tmp_path)) == 3
    with pytest.raises(UserError, match=r"grid\.yaml: 4 cells or more; expected at most 3$"):
        cells("- seed: [1, 2]\n- seed: [3, 4]", "seed", tmp_path)


DRAW = "learning_rate: {from: 1e-5, to: 0.1, log: true}\nmodel_type: [cnn, vit]\nseed: [1, 2]\n"


def test_sample_follows_from_its_seed_alone(tmp_path: Path) -> None:
    """Worked out from the first numbers of default_rng(0): 0.637, 0.270, 0.041, 0.017, 0.813.

    Of listed cells, those with the smallest numbers are drawn; else each axis takes a number, in
    the order of the names.
    """
    listed = "seed: [1, 2, 3, 4, 5]\nmodel_type: [cnn, vit]\nsample: 3\n"
    assert cells(listed, "model_type seed", tmp_path) == [("cnn", 2), ("cnn", 3), ("cnn", 4)]
    names = "model_type learning_rate seed"
    one = ("cnn", 0.00353059, 1)  # 1e-5 * 10 ** (4 * 0.637), the first of each list
    others = [("vit", 1.16442e-05, 2), ("vit", 0.0026702, 2)]
    assert cells(f"{DRAW}sample: 1", names, tmp_path) == [one]
    assert cells(f"{DRAW}sample: 3\nsample_seed: 0", names, tmp_path) == [one, *others]
    assert one not in cells(f"{DRAW}sample: 3\nsample_seed: 1", names, tmp_path)


def test_sample_does_not_depend_on_the_order_of_settings(tmp_path: Path) -> None:
    for text in (DRAW, DRAW.replace("from: 1e-5, to: 0.1, log: true", "from: 1, to: 9, steps: 9")):
        names = "learning_rate model_type seed"
        turned = "".join(line + "\n" for line in reversed(text.splitlines()))
        first = cells(f"{text}sample: 12\n", names, tmp_path)
        assert sorted(cells(f"sample: 12\n{turned}", names, tmp_path)) == sorted(first)
        assert len(set(first)) == 12


def test_continuous_range_is_drawn_uniformly_between_its_ends(tmp_path: Path) -> None:
    text = "learning_rate: {from: 1e-4, to: 1, log: true}\nweight_decay: {from: 2, to: 4}\n"
    drawn = cells(f"{text}sample: 2000", "learning_rate weight_decay", tmp_path)
    rates, decays = zip(*drawn, strict=True)
    assert 1e-4 <= min(rates) < 1.1e-4
    assert 0.9 < max(rates) <= 1
    assert 0.45 < sum(rate < 1e-2 for rate in rates) / 2000 < 0.55
    assert 2 <= min(decays) < 2.01
    assert 3.99 < max(decays) <= 4
    assert 0.45 < sum(decay < 3 for decay in decays) / 2000 < 0.55


def test_whole_numbers_are_drawn_with_both_ends(tmp_path: Path) -> None:
    text = "batch_size: {from: 2, to: 5}\nlearning_rate: {from: 0.1, to: 1}\nsample: 400"
    sizes = [size for (size,) in cells(text, "batch_size", tmp_path)]
    assert {size: 70 < sizes.count(size) < 130 for size in sizes} == dict.fromkeys(
        (2, 3, 4, 5), True
    )


def test_sample_of_more_combinations_than_a_grid_may_have(tmp_path: Path) -> None:
    steps = "{from: 1, to: 999, steps: 999}"
    text = f"seed: {steps}\nsplit_seed: {steps}\nexclude: {{seed: 7}}\nsample: 50"
    drawn = cells(text, "seed split_seed", tmp_path)
    assert len(set(drawn)) == 50
    assert drawn == sorted(drawn)


NAMES = ("model_type", "scheduler", "step_size", "seed", "gamma")
VALUES: dict[str, list[Any]] = {
    "model_type": ["resnet", "cnn", "vit"],
    "scheduler": ["step", "cosine", "exponential"],
    "step_size": [3, 5, 10],
    "seed": [0, 1, 2],
    "gamma": [0.99, 0.9],
}


def some(name: str) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(VALUES[name]), min_size=1, max_size=4)


def condition(names: Iterable[str]) -> st.SearchStrategy[dict[str, Any]]:
    of_each = {name: some(name) for name in names}
    return st.fixed_dictionaries({}, optional=of_each).filter(bool)


@st.composite
def blocks(draw: st.DrawFn) -> dict[str, Any]:
    """Return a block, in which a setting may depend on those before it in NAMES."""
    block: dict[str, Any] = {name: draw(some(name)) for name in NAMES if draw(st.booleans())}
    given_names = [name for name in NAMES if name in block]
    if draw(st.booleans()) and len(given_names) > 1:
        pair = given_names[-2:]
        length = min(len(block[name]) for name in pair)
        block["zip"] = {name: block.pop(name)[:length] for name in pair}
    elif len(given_names) > 1:
        wanted = draw(condition(given_names[:1]))
        block["when"] = {given_names[-1]: wanted}
    if draw(st.booleans()):
        block["exclude"] = draw(st.lists(condition(NAMES), min_size=1, max_size=2))
    if draw(st.booleans()):
        block |= {"sample": draw(st.integers(1, 5)), "sample_seed": draw(st.integers(0, 3))}
    return block


def holds(wanted: dict[str, list[Any]], config: RunConfig) -> bool:
    return all(getattr(config, name) in values for name, values in wanted.items())


accepted: list[int] = []


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(st.lists(blocks(), min_size=1, max_size=3))
def check_properties(whole: list[dict[str, Any]]) -> None:
    try:
        expanded = grid.expand_blocks(whole)
    except UserError:
        return
    accepted.append(len(expanded))
    found = [config for block in expanded for config in block.cells]
    assert len(set(found)) == len(found), "a cell stands twice"
    for raw, block in zip(whole, expanded, strict=True):
        assert len(block.cells) + block.repeated <= raw.get("sample", 1000)
        for config in block.cells:
            assert not any(holds(wanted, config) for wanted in raw.get("exclude", []))
            for name, wanted in raw.get("when", {}).items():
                allowed = raw[name] if holds(wanted, config) else [getattr(RunConfig, name)]
                assert getattr(config, name) in allowed
            zipped = raw.get("zip", {})
            row = tuple(getattr(config, name) for name in zipped)
            assert not zipped or row in zip(*zipped.values(), strict=True)


def test_no_cell_stands_twice_and_conditions_and_exclusions_hold() -> None:
    accepted.clear()
    check_properties()
    assert len(accepted) > 60, "too few of the grids are valid for this to mean something"
