"""Aggregation of run folders into the table of runs (clean_runs.csv)."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from src import runs
from src.common.errors import UserError
from src.config import CHECKPOINT_KINDS, RunConfig
from src.data.spec import CLASSES
from src.runs.aggregate import OUR_COLUMNS, PUBLISHED_COLUMNS, collect, unfinished, write_csv
from src.runs.run_folder import RunFolder, State
from src.sweep import grid
from src.sweep.status import run_states

MEASURES = ("accuracy", "loss", "per_class_accuracy")

# the header of the published clean_runs.csv, sorted
PUBLISHED = sorted(
    ["Modelname", "Group", "Full_Modelname"]
    + ["augmentation", "gamma", "learning_rate", "scheduler", "weight_decay"]
    + [
        f"test_{m}_{k}"
        for m in ("accuracy", "loss", "per_class_accuracy")
        for k in CHECKPOINT_KINDS
    ]
    + [f"test_per_class_accuracy_{c}_{k}" for c in CLASSES for k in CHECKPOINT_KINDS]
    + [f"{p}_{m}" for p in ("train", "val") for m in MEASURES]
    + [f"{p}_per_class_accuracy_{c}" for p in ("train", "val") for c in CLASSES]
)


def finish(config: RunConfig, runs_dir: Path, accuracy: float = 0.5) -> RunFolder:
    folder = RunFolder.of(config, runs_dir)
    folder.register(config)
    numbers = {
        name: accuracy for name in PUBLISHED_COLUMNS if name.startswith(("test", "train", "val"))
    }
    folder.write_result({"run_id": config.id, **numbers, "stop_reason": "completed"})
    return folder


def test_columns_include_published_ones_without_overlap() -> None:
    assert sorted(PUBLISHED_COLUMNS) == PUBLISHED
    assert len(PUBLISHED) == 73
    assert not set(PUBLISHED) & set(OUR_COLUMNS)


def test_reference_grid_gives_one_ordered_row_per_cell(tmp_path: Path) -> None:
    cells = grid.expand(grid.REFERENCE)
    for cell in reversed(cells):
        finish(cell, tmp_path)
    table = runs.load(tmp_path)
    assert table["Full_Modelname"].tolist() == [cell.name for cell in cells]
    assert table["run_id"].nunique() == 672
    aliases = table[table["alias_of"].notna()]
    assert len(aliases) == 864 - 672
    assert set(aliases["scheduler"]) == {"cosine"}
    assert aliases["alias_of"].isin(table["Full_Modelname"]).all()
    write_csv(table, tmp_path / "a.csv")
    write_csv(collect(tmp_path).table, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_seeds_and_epochs_give_separate_rows(tmp_path: Path) -> None:
    base = RunConfig()
    for config in (base, replace(base, seed=1), replace(base, num_epochs=5)):
        finish(config, tmp_path)
    table = runs.load(tmp_path)
    assert table[["num_epochs", "seed"]].values.tolist() == [[5, 0], [80, 0], [80, 1]]
    assert table["alias_of"].isna().all()


def test_unfinished_runs_are_counted_by_state(tmp_path: Path) -> None:
    finish(RunConfig(), tmp_path)
    failed = RunFolder.of(RunConfig(seed=1), tmp_path)
    failed.register(RunConfig(seed=1))
    failed.write_failure({"kind": "x"})
    RunFolder.of(RunConfig(seed=2), tmp_path).register(RunConfig(seed=2))
    collected = collect(tmp_path)
    assert len(collected.table) == 1
    assert collected.states == {"resnet": {State.DONE: 1, State.FAILED: 1, State.PENDING: 1}}
    assert unfinished(collected.states["resnet"]) == "1 failed, 1 pending"


def test_synthetic_runs_are_excluded_beside_real_runs(tmp_path: Path) -> None:
    finish(RunConfig(base_dataset_path="synthetic"), tmp_path)
    assert len(collect(tmp_path).table) == 1
    assert collect(tmp_path, synthetic=False).table.empty
    finish(RunConfig(), tmp_path)
    collected = collect(tmp_path)
    assert (len(collected.table), collected.synthetic) == (1, 1)
    assert collected.states == {"resnet": {State.DONE: 1}}


def test_finished_run_without_cell_files_is_kept_or_reported(tmp_path: Path) -> None:
    folder = finish(RunConfig(), tmp_path)
    for cell in (folder.path / "cells").iterdir():
        cell.unlink()
    assert runs.load(tmp_path)["run_id"].tolist() == [RunConfig().id], (
        "the settings are read from config.json"
    )
    (folder.path / "config.json").write_text('{"model_type": "gone"}')
    collected = collect(tmp_path)
    assert collected.table.empty
    assert "model_type 'gone'" in collected.unreadable[0]


def test_cell_that_cannot_be_read_is_reported_and_the_others_kept(tmp_path: Path) -> None:
    folder = finish(RunConfig(), tmp_path)
    (folder.path / "cells" / "a.json").write_text('{"model_type": "gone"}')
    collected = collect(tmp_path)
    assert collected.table["run_id"].tolist() == [RunConfig().id]
    assert collected.states == {"resnet": {State.DONE: 1}}
    [line] = collected.unreadable
    assert line.startswith(f"{folder.path}: model_type 'gone'")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"test_accuracy_best_val_acc": "high"}'])
def test_damaged_result_is_named_once_and_the_other_runs_kept(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(RunConfig(), tmp_path)
    damaged = finish(RunConfig(seed=1), tmp_path).path / "result.json"
    damaged.write_text(text)
    for _ in range(2):
        assert collect(tmp_path).table["run_id"].tolist() == [RunConfig().id]
    line = f"{damaged}: damaged; the run does not count as finished\n"
    assert capsys.readouterr().err == line


def test_settings_that_differ_from_their_default_are_columns(tmp_path: Path) -> None:
    """Without them a table does not tell what a recipe or a sweep has changed."""
    cosine = RunConfig(scheduler="cosine", t_max=20, batch_norm=True, model_type="tinyvgg")
    plain = RunConfig(rotation=30, model_type="tinyvgg")  # which has no effect without augmentation
    smoothed = RunConfig(label_smoothing=0.1, seed=3, precision="float32", device="cpu")
    for config in (cosine, plain, smoothed):
        finish(config, tmp_path)
    collected = collect(tmp_path)
    columns = ["t_max", "batch_norm", "label_smoothing"]
    assert sorted(collected.table.columns[len(PUBLISHED_COLUMNS) + len(OUR_COLUMNS) :]) == sorted(
        columns
    )
    write_csv(collected.table, tmp_path / "runs.csv")
    read = pd.read_csv(tmp_path / "runs.csv").set_index("run_id")[columns].astype(object)
    rows = {str(name): [None if pd.isna(v) else v for v in row] for name, row in read.iterrows()}
    assert rows[cosine.id] == [20, True, 0]
    assert rows[plain.id] == [None, None, 0]
    assert rows[smoothed.id] == [None, None, 0.1]


def test_ignored_settings_give_alias_rows(tmp_path: Path) -> None:
    for rotation in (15, 30):
        finish(RunConfig(rotation=rotation), tmp_path)
    table = runs.load(tmp_path)
    assert len(table) == 2
    assert table["run_id"].nunique() == 1
    assert table["alias_of"].notna().sum() == 1
    finish(RunConfig(base_dataset_path="/elsewhere"), tmp_path)
    assert len(runs.load(tmp_path)) == 2, "dataset paths do not distinguish cells"


def test_cell_file_of_older_version_gives_no_second_row(tmp_path: Path) -> None:
    folder = finish(RunConfig(), tmp_path)
    [cell] = (folder.path / "cells").iterdir()
    before = json.loads(cell.read_text())
    del before["dropout"]
    cell.with_name(f"{RunConfig().name}-before.json").write_text(json.dumps(before))
    assert len(folder.cells()) == 2
    assert runs.load(tmp_path)["alias_of"].isna().tolist() == [True]
    [training] = run_states.of_folders(tmp_path)
    assert training.cells == {"": 1}


def test_write_csv_reports_missing_folder(tmp_path: Path) -> None:
    finish(RunConfig(), tmp_path)
    path = tmp_path / "clean_runs.csv"
    write_csv(collect(tmp_path).table, path)
    assert len(pd.read_csv(path)) == 1
    with pytest.raises(UserError, match="no such folder"):
        write_csv(collect(tmp_path).table, tmp_path / "none" / "x.csv")
