"""The replay of pruners decides as the pruner of a sweep does, and keeps what it should."""

import json
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import pruning
from benchmarks.pruning import Halving, Hyperband, Median, Sweep, replay, score
from src.config import RunConfig
from src.pruning.halving import SuccessiveHalving
from src.pruning.pruner import SuccessiveHalvingPruner
from tests.pruning.test_pruner import rows as history_rows
from tests.pruning.test_pruner import write_competitor


def sweep_of(losses: list[list[float]]) -> Sweep:
    array = np.array(losses)
    return Sweep(array, array.min(axis=1), 0.01)


def test_replay_counts_epochs_and_survivors() -> None:
    # three runs, four epochs, a rung after the second: only the best of those seen goes on
    sweep = sweep_of([[3.0] * 4, [2.0] * 4, [1.0] * 4])
    halving = Halving(SuccessiveHalving(2, 3), 4)
    assert replay(sweep, halving, 1, [0, 1, 2]) == (12, {0, 1, 2})  # each was the best so far
    assert replay(sweep, halving, 1, [2, 1, 0]) == (8, {2})
    assert replay(sweep, halving, 3, [2, 1, 0]) == (8, {2})


def test_diverged_run_ends_where_it_diverged() -> None:
    sweep = sweep_of([[1.0, 1.0, np.inf, np.inf], [2.0, 2.0, 2.0, 2.0]])
    assert replay(sweep, Halving(SuccessiveHalving(9, 3), 4), 1, [0, 1]) == (6, {1})


def test_decisions_equal_those_of_the_pruner_of_sweeps(config: RunConfig, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    halving = SuccessiveHalving(2, 2)
    long = replace_fields(config, num_epochs=3)
    decisions, lowest = [], list[float]()
    for seed, losses in enumerate(random.uniform(0.5, 1.0, (12, 2)).tolist()):
        real = SuccessiveHalvingPruner(halving, tmp_path)
        ours = Halving(halving, 3)
        decisions.append(real.should_prune(replace_fields(long, seed=seed), history_rows(losses)))
        lowest.append(min(losses))
        assert ours.prunes(min(losses), lowest) == decisions[-1]
        write_competitor(replace_fields(long, seed=seed), tmp_path, losses)
    assert set(decisions) == {True, False}


def test_easy_curves_keep_the_best_and_inverted_ones_do_not() -> None:
    epochs = np.arange(1, 31)
    floors = np.linspace(0.5, 1.0, 24)[:, None]
    easy = Sweep(floors + 1 / epochs, floors[:, 0], 0.01)
    inverted = Sweep(floors + 1 / epochs, -floors[:, 0], 0.01)

    def make(count: int) -> Halving:
        return Halving(SuccessiveHalving(5, 3), count)

    assert score([easy], make).best_kept == 1.0
    assert score([easy], make).saved > 0.4
    assert score([inverted], make).best_kept < 0.5


def test_hyperband_spreads_runs_over_brackets() -> None:
    hyperband = Hyperband(SuccessiveHalving(5, 3), 80)
    assert {tuple(hyperband.rungs(run)) for run in range(48)} == {(5, 15, 45), (15, 45), (45,)}


def test_median_rule_waits_for_five_others() -> None:
    median = Median(80)
    assert not median.prunes(9.0, [1.0] * 4 + [9.0])
    assert median.prunes(9.0, [1.0] * 5 + [9.0])
    assert not median.prunes(0.5, [1.0] * 5 + [0.5])


def test_histories_are_collected_and_read(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        whole = replace_fields(config, num_epochs=2, seed=seed)
        write_competitor(whole, tmp_path, [1.0 + seed, 0.5 + seed])
    write_competitor(replace_fields(config, num_epochs=2, seed=7), tmp_path, [1.0])  # pruned
    out = tmp_path / "histories.csv"
    assert pruning.collect(tmp_path, out) == 3
    [sweep] = pruning.measured(out)
    assert sorted(sweep.truth.tolist()) == [0.5, 1.5, 2.5]
    assert pruning.measured(tmp_path / "none.csv") == []


def test_table_in_the_document_is_that_of_the_results() -> None:
    rows: list[dict[str, Any]] = json.loads((pruning.RESULTS / pruning.FILE).read_text())
    text = pruning.DOCUMENT.read_text().split(pruning.BEGIN)[1].split(pruning.END)[0]
    assert text.strip() == pruning.markdown(rows)
