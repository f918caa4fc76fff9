"""generate: set files of a grid, the numbers and axes of its blocks, left-over set files."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from src.common.errors import ExitStatus
from src.config import RunConfig
from src.sweep import grid, sets
from src.sweep.commands import generate
from src.sweep.grid_summary import BlockSummary, summarize

BLOCKS = """
- scheduler: [step, cosine]
  gamma: [0.9, 0.99]
  step_size: [3, 5, 10]
  when: {step_size: {scheduler: step}}
- zip: {learning_rate: [0.1, 0.0001], weight_decay: [0.001, 0.0001]}
  scheduler: [step, cosine]
  exclude: {learning_rate: 0.1, scheduler: step}
"""
SAMPLE = """
learning_rate: {from: 1e-5, to: 1e-1, log: true}
seed: {from: 1, to: 20, steps: 20}
sample: 4
"""


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(BLOCKS)
    return path


def test_blocks_are_counted_with_repeated_cells_and_aliases(grid_file: Path) -> None:
    first, second = summarize(grid.expand_blocks(grid.read(grid_file)))
    assert first == BlockSummary(
        cells=8,  # 2 gammas with 3 step sizes of step, and with cosine
        repeated=0,
        aliases=1,  # gamma has no effect with cosine
        axes={
            "scheduler": "step, cosine",
            "gamma": "0.9, 0.99",
            "step_size": "3, 5, 10 where scheduler is step, else 3",
        },
    )
    assert (second.cells, second.repeated, second.aliases) == (3, 2, 0)
    assert second.axes == {
        "scheduler": "step, cosine",
        "learning_rate": "0.1, 0.0001 (together with weight_decay)",
        "weight_decay": "0.001, 0.0001 (together with learning_rate)",
        "exclude": "learning_rate is 0.1 and scheduler is step",
    }


def test_dry_run_draws_the_axes_and_writes_nothing(
    grid_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--grid", str(grid_file), "--out", str(tmp_path / "sets"), "--dry-run"]
    assert generate.main(words) == ExitStatus.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "block 1: 8 cells, 0 of them in an earlier block; 1 aliases of other cells",
        "  setting    values",
        "  scheduler  step, cosine",
    ]
    assert "block 2: 3 cells, 2 of them in an earlier block; 0 aliases of other cells" in lines
    assert lines[-1] == "9 runs (8 different trainings) in 2 set files"
    grid_file.write_text(SAMPLE)
    generate.main(words)
    text = capsys.readouterr().out
    assert "  learning_rate  1e-05 to 0.1, in log\n" in text
    assert "  seed           1, 2, 3, ..., 20 (20 values)\n" in text
    assert "  sample         4 cells, seed 0\n" in text
    assert not (tmp_path / "sets").exists()


def test_replace_removes_set_files_of_a_larger_grid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], expect_bad_input: Callable[..., str]
) -> None:
    folder, path = tmp_path / "sets", tmp_path / "grid.yaml"
    words = ["--grid", str(path), "--out", str(folder)]
    path.write_text("model_type: [cnn, vit, resnet]")
    generate.main(words)
    path.write_text("model_type: [vit]")
    capsys.readouterr()
    error = expect_bad_input(generate.main, *words)
    assert "hyperparameters_2.txt, which is not of this grid of 1 sets" in error
    assert "--replace" in error
    assert len(os.listdir(folder)) == 3
    names = "hyperparameters_2.txt ... hyperparameters_3.txt\n"
    generate.main([*words, "--replace", "--dry-run"])
    assert capsys.readouterr().out.endswith(f"would be removed, of a larger grid: {names}")
    assert len(os.listdir(folder)) == 3
    (folder / "notes.txt").touch()
    generate.main([*words, "--replace"])
    assert capsys.readouterr().out.endswith(f"\nremoved, of a larger grid: {names}")
    assert sorted(os.listdir(folder)) == ["hyperparameters_1.txt", "notes.txt"]
    [config] = sets.read(folder / "hyperparameters_1.txt")
    assert config == RunConfig(model_type="vit", base_dataset_path=config.base_dataset_path)
    generate.main([*words, "--replace"])
    assert "removed" not in capsys.readouterr().out
