"""Successive halving: who competes with whom, when, and what becomes of the losers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src import data
from src.config import RunConfig
from src.data.dataset import Dataset
from src.report import table
from src.report.charts.top_k import top_k
from src.run import RunOptions, run
from src.runs.aggregate import collect
from src.runs.run_folder import RunFolder, State
from src.sweep.pruner import SuccessiveHalving, SuccessiveHalvingPruner

HALVING = SuccessiveHalving(first_rung=2, reduction=2)


@pytest.fixture
def long(config: RunConfig) -> RunConfig:
    return replace(config, num_epochs=9, scheduler="step")


def rows(losses: Sequence[float | None]) -> list[dict[str, Any]]:
    """Epochs with these validation losses; None where there was no validation."""
    return [
        {"epoch": epoch} | ({} if loss is None else {"val_loss": loss})
        for epoch, loss in enumerate(losses, 1)
    ]


def peer(config: RunConfig, folder: Path, losses: Sequence[float | None]) -> None:
    other = RunFolder.of(config, folder)
    other.register(config)
    other.write_history(rows(losses))


def test_rungs() -> None:
    assert SuccessiveHalving().rungs(80) == [5, 15, 45]
    assert HALVING.rungs(9) == [2, 4, 8]
    assert HALVING.rungs(2) == []  # a run that is at its end is not judged


def test_the_worse_half_stops_at_a_rung(long: RunConfig, tmp_path: Path) -> None:
    for seed, loss in enumerate([1.0, 1.2, 1.4, 1.6], 1):
        peer(replace(long, seed=seed), tmp_path, [3.0, loss, loss])
    pruner = SuccessiveHalvingPruner(HALVING, tmp_path)
    assert not pruner.should_prune(long, rows([9.0]))  # no rung yet
    assert not pruner.should_prune(long, rows([9.0, 1.1]))
    assert pruner.should_prune(long, rows([9.0, 1.5]))
    assert not pruner.should_prune(long, rows([9.0, 1.5, 1.5]))  # judged once a rung
    assert not pruner.should_prune(long, rows([1.1, 1.5]))  # by the lowest so far
    assert not pruner.should_prune(long, rows([9.0, 1.1, 1.1, 7.0]))  # nobody else is that far
    peer(replace(long, seed=9), tmp_path, [9.0, 1.0, 0.9, 0.8])
    assert pruner.should_prune(long, rows([9.0, 1.1, 1.1, 1.1]))


def test_the_first_validation_after_a_rung_counts(long: RunConfig, tmp_path: Path) -> None:
    peer(replace(long, seed=1), tmp_path, [None, None, 1.0])
    pruner = SuccessiveHalvingPruner(HALVING, tmp_path)
    assert not pruner.should_prune(long, rows([None, None]))
    assert pruner.should_prune(long, rows([None, None, 2.0]))
    assert not pruner.should_prune(long, rows([None, None, 2.0, None]))


@pytest.mark.parametrize(
    ("setting", "competes"),
    [
        ({"learning_rate": 0.5}, True),
        ({"weight_decay": 0.5}, True),
        ({"scheduler": "exponential"}, False),
        ({"gamma": 0.5}, False),
        ({"num_epochs": 10}, False),
        ({"data_augmentation": True}, False),
        ({"model_type": "resnet"}, False),
    ],
)
def test_only_runs_of_the_same_schedule_compete(
    long: RunConfig, tmp_path: Path, setting: dict, competes: bool
) -> None:
    peer(replace(long, **setting), tmp_path, [1.0, 1.0])
    assert (
        SuccessiveHalvingPruner(HALVING, tmp_path).should_prune(long, rows([2.0, 2.0])) == competes
    )


@pytest.fixture
def sweep(
    long: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_dataset: Dataset
) -> list[RunConfig]:
    """Four runs, the last two of which learn nothing."""
    monkeypatch.setattr(data, "load", lambda path: small_dataset)
    rates = (0.003, 0.002, 1e-7, 2e-7)
    return [replace(long, num_epochs=4, learning_rate=rate) for rate in rates]


def test_a_pruned_run_is_marked_everywhere_and_never_complete(
    sweep: list[RunConfig], tmp_path: Path
) -> None:
    outcomes = run(
        sweep,
        runs_dir=tmp_path,
        options=RunOptions(pruner=SuccessiveHalvingPruner(HALVING, tmp_path)),
    )
    assert [outcome.state for outcome in outcomes[2:]] == [State.PRUNED] * 2
    assert outcomes[0].state == State.DONE
    for outcome in outcomes[2:]:
        assert outcome.result
        assert (outcome.result["stop_reason"], outcome.result["epochs_run"]) == ("pruned", 2)
        kept = {path.name for path in outcome.folder.iterdir()}
        assert kept == {"config.json", "cells", "history.jsonl", "attempts", "pruned.json"}

    collected = collect(tmp_path)
    assert collected.states["cifar10net"][State.PRUNED] >= 2
    runs = collected.table.set_index("learning_rate").to_dict("index")
    assert runs[1e-7]["stop_reason"] == "pruned"
    assert runs[1e-7]["epochs_run"] == 2
    assert runs[0.003]["stop_reason"] == "completed"
    worst_first = collected.table.assign(best_val_accuracy=1 - collected.table.best_val_accuracy)
    top = top_k(worst_first, "cifar10net", 4, "best_val_accuracy")
    assert top.runs[0].pruned_after is None  # though the pruned ones would be ahead
    assert top.runs[-1].pruned_after == 2
    assert "pruned after 2 epochs" in top.runs[-1].label
    assert table.is_pruned(worst_first).sum() >= 2


def test_pruned_runs_rest_with_prune_and_are_finished_without(
    sweep: list[RunConfig], tmp_path: Path
) -> None:
    first = run(
        sweep,
        runs_dir=tmp_path,
        options=RunOptions(pruner=SuccessiveHalvingPruner(HALVING, tmp_path)),
    )
    again = run(
        sweep,
        runs_dir=tmp_path,
        options=RunOptions(pruner=SuccessiveHalvingPruner(HALVING, tmp_path)),
    )
    assert [o.result for o in first] == [o.result for o in again]
    whole = run(sweep, runs_dir=tmp_path)
    assert [outcome.state for outcome in whole] == [State.DONE] * 4
    assert [o.result["epochs_run"] for o in whole if o.result] == [4] * 4
    assert not list(tmp_path.rglob("pruned.json"))
    alone = run([replace(sweep[2])], runs_dir=tmp_path / "alone")[0].result
    assert alone
    assert whole[2].result
    assert whole[2].result["test_loss_terminal"] == alone["test_loss_terminal"]
