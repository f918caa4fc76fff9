"""Successive halving: rungs, competing runs, and states of pruned runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src import data
from src.common.paths import HISTORY
from src.config import RunConfig
from src.data.dataset import Dataset
from src.pruning.pruner import SuccessiveHalving, SuccessiveHalvingPruner
from src.report import table
from src.report.charts.top_k import top_k
from src.run import RunOptions, run
from src.runs.aggregate import collect
from src.runs.run_folder import RunFolder, State

HALVING = SuccessiveHalving(first_rung=2, reduction=2)


@pytest.fixture
def long(config: RunConfig) -> RunConfig:
    return replace(config, num_epochs=9, scheduler="step")


def rows(losses: Sequence[float | None]) -> list[dict[str, Any]]:
    """Return history rows with the given validation losses; None for no validation."""
    return [
        {"epoch": epoch} | ({} if loss is None else {"val_loss": loss})
        for epoch, loss in enumerate(losses, 1)
    ]


def write_competitor(config: RunConfig, folder: Path, losses: Sequence[float | None]) -> None:
    other = RunFolder.of(config, folder)
    other.register(config)
    other.write_history(rows(losses))


def test_rungs_grow_by_reduction_factor() -> None:
    assert SuccessiveHalving().rungs(80) == [10, 20, 40]
    assert SuccessiveHalving(5, 3).rungs(80) == [5, 15, 45]
    assert HALVING.rungs(9) == [2, 4, 8]
    assert HALVING.rungs(2) == []  # a finished run is not pruned


def test_worse_half_is_pruned_at_rung(long: RunConfig, tmp_path: Path) -> None:
    for seed, loss in enumerate([1.0, 1.2, 1.4, 1.6], 1):
        write_competitor(replace(long, seed=seed), tmp_path, [3.0, loss, loss])
    pruner = SuccessiveHalvingPruner(HALVING, tmp_path)
    assert not pruner.should_prune(long, rows([9.0]))  # no rung yet
    assert not pruner.should_prune(long, rows([9.0, 1.1]))
    assert pruner.should_prune(long, rows([9.0, 1.5]))
    assert not pruner.should_prune(long, rows([9.0, 1.5, 1.5]))  # judged once per rung
    assert not pruner.should_prune(long, rows([1.1, 1.5]))  # by the lowest so far
    assert not pruner.should_prune(
        long, rows([9.0, 1.1, 1.1, 7.0])
    )  # no other run has reached this rung
    write_competitor(replace(long, seed=9), tmp_path, [9.0, 1.0, 0.9, 0.8])
    assert pruner.should_prune(long, rows([9.0, 1.1, 1.1, 1.1]))


def test_damaged_history_of_another_run_does_not_count(long: RunConfig, tmp_path: Path) -> None:
    for seed, loss in enumerate([1.0, 1.2, 1.4], 1):
        write_competitor(replace(long, seed=seed), tmp_path, [3.0, loss])
    damaged = RunFolder.of(replace(long, seed=4), tmp_path)
    write_competitor(replace(long, seed=4), tmp_path, [0.1, 0.1])
    (damaged.path / HISTORY).write_text("{")
    pruner = SuccessiveHalvingPruner(HALVING, tmp_path)
    assert not pruner.should_prune(long, rows([9.0, 1.1]))
    assert pruner.should_prune(long, rows([9.0, 1.5]))


def test_first_validation_after_rung_is_compared(long: RunConfig, tmp_path: Path) -> None:
    write_competitor(replace(long, seed=1), tmp_path, [None, None, 1.0])
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
        ({"val_split": "stratified"}, False),
    ],
)
def test_runs_compete_only_with_same_model_and_schedule(
    long: RunConfig, tmp_path: Path, setting: dict, competes: bool
) -> None:
    write_competitor(replace(long, **setting), tmp_path, [1.0, 1.0])
    assert (
        SuccessiveHalvingPruner(HALVING, tmp_path).should_prune(long, rows([2.0, 2.0])) == competes
    )


@pytest.mark.parametrize("setting", [{"val_size": 70}, {"split_seed": 5}])
def test_runs_that_are_validated_on_other_images_do_not_compete(
    long: RunConfig, tmp_path: Path, setting: dict
) -> None:
    ours = replace(long, val_split="random", val_size=60)
    write_competitor(replace(ours, **setting), tmp_path, [1.0, 1.0])
    pruner = SuccessiveHalvingPruner(HALVING, tmp_path)
    assert not pruner.should_prune(ours, rows([2.0, 2.0]))
    write_competitor(replace(ours, seed=1), tmp_path, [1.0, 1.0])
    assert pruner.should_prune(ours, rows([2.0, 2.0]))


@pytest.fixture
def sweep(
    long: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_dataset: Dataset
) -> list[RunConfig]:
    """Return four runs, the last two of which hardly learn."""
    monkeypatch.setattr(data, "load", lambda path, name: small_dataset)
    rates = (0.003, 0.002, 1e-7, 2e-7)
    return [replace(long, num_epochs=4, learning_rate=rate) for rate in rates]


def test_pruned_run_is_marked_in_files_table_and_chart(
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
        file_names = {path.name for path in outcome.folder.iterdir()}
        assert file_names == {"config.json", "cells", "history.jsonl", "attempts", "pruned.json"}

    collected = collect(tmp_path)
    assert collected.states["cifar10net"][State.PRUNED] >= 2
    runs = collected.table.set_index("learning_rate").to_dict("index")
    assert runs[1e-7]["stop_reason"] == "pruned"
    assert runs[1e-7]["epochs_run"] == 2
    assert runs[0.003]["stop_reason"] == "completed"
    worst_first = collected.table.assign(best_val_accuracy=1 - collected.table.best_val_accuracy)
    top = top_k(worst_first, "cifar10net", 4, "best_val_accuracy")
    assert top.runs[0].pruned_after is None  # although pruned runs have higher values
    assert top.runs[-1].pruned_after == 2
    assert "pruned after 2 epochs" in top.runs[-1].label
    assert table.is_pruned(worst_first).sum() >= 2


def test_pruned_run_is_kept_with_pruner_and_finished_without(
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
    completed = run(sweep, runs_dir=tmp_path)
    assert [outcome.state for outcome in completed] == [State.DONE] * 4
    assert [o.result["epochs_run"] for o in completed if o.result] == [4] * 4
    assert not list(tmp_path.rglob("pruned.json"))
    alone = run([replace(sweep[2])], runs_dir=tmp_path / "alone")[0].result
    assert alone
    assert completed[2].result
    assert completed[2].result["test_loss_terminal"] == alone["test_loss_terminal"]


def test_only_changed_histories_are_read_again(
    long: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(1, 4):
        write_competitor(replace(long, seed=seed), tmp_path, [3.0, 1.0])
    reads: list[Path] = []
    read = RunFolder.history

    def counted(folder: RunFolder) -> list[dict[str, Any]]:
        reads.append(folder.path)
        return read(folder)

    monkeypatch.setattr(RunFolder, "history", counted)
    pruner = SuccessiveHalvingPruner(HALVING, tmp_path)
    pruner.should_prune(long, rows([9.0, 1.1]))
    assert len(reads) == 3
    pruner.should_prune(long, rows([9.0, 1.1]))
    assert len(reads) == 3
    write_competitor(replace(long, seed=2), tmp_path, [3.0, 1.0, 0.9])
    pruner.should_prune(long, rows([9.0, 1.1, 1.0, 1.0]))
    assert reads[3:] == [RunFolder.of(replace(long, seed=2), tmp_path).path]
