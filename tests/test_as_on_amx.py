"""No test takes auto for float32: some that train little, once more where it is bfloat16."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.common.paths import ROOT
from src.config import RunConfig
from src.training.precision import ComputeFormat, select_compute_format
from tests import as_on_amx

TESTS = [
    "tune/test_lr_range_test.py::test_it_is_the_test_of_torch_lr_finder",
    "training/test_trainer.py::test_stopped_anywhere_and_resumed_is_the_same",
    "training/test_trainer.py::test_it_is_the_plain_training_loop",
    "training/test_trainer.py::test_golden_losses",
    "training/test_cuda_graphs.py::test_a_replayed_step_does_what_the_step_does[settings0]",
    "cpu/test_winograd.py::test_a_step_with_it_is_the_step_in_float64",
    "cpu/test_winograd.py::test_trained_with_it_a_run_is_the_same",
    "benchmarks/test_arms.py::test_without_augmentation_the_loss_is_the_same",
    "test_run.py::test_a_run_folder_holds_everything",
    "test_run.py::test_stopped_and_resumed_is_the_undisturbed_run",
    "test_evaluate.py::test_a_run_without_its_files",
    "report/test_run_analysis.py::test_training_features_are_those_of_the_runs_weights",
]


def test_some_tests_where_auto_is_bfloat16() -> None:
    words = (sys.executable, "-m", "pytest", "-p", "tests.as_on_amx", "-p", "no:cacheprovider")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*words, *(f"tests/{one}" for one in TESTS)],
        cwd=ROOT,
        env=ours,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed in", done.stdout), "and none was skipped"


def test_there_auto_is_bfloat16(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with as_on_amx.forced():
        found = select_compute_format(config, torch.device("cpu"))
    assert found == ComputeFormat("bfloat16", "channels_last")
