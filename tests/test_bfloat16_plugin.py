"""Run a selection of short training tests again with auto precision resolved to bfloat16."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.common.paths import ROOT
from src.config import RunConfig
from src.cpu import fused_norm
from src.training.compute_format import ComputeFormat
from src.training.precision import select_compute_format
from tests import bfloat16_plugin

TESTS = [
    "tune/test_lr_range_test.py::test_range_test_matches_torch_lr_finder",
    "training/test_trainer.py::test_resuming_after_any_step_gives_identical_result",
    "training/test_trainer.py::test_training_matches_plain_pytorch_loop",
    "training/test_trainer.py::test_losses_match_golden_values",
    "training/test_cuda_graphs.py::test_replayed_steps_train_bitwise_as_eager_steps[settings0]",
    "cpu/test_winograd.py::test_winograd_step_matches_float64_reference",
    "cpu/test_winograd.py::test_run_with_winograd_matches_direct_losses",
    "benchmarks/test_arms.py::test_arms_have_same_loss_without_augmentation",
    "test_run.py::test_run_folder_has_all_files_and_consistent_results",
    "test_run.py::test_stopped_and_resumed_run_equals_uninterrupted_run",
    "report/test_run_analysis.py::test_recomputed_features_match_stored_predictions",
]


def test_selected_tests_pass_when_auto_is_bfloat16() -> None:
    command = (
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.bfloat16_plugin",
        "-p",
        "no:cacheprovider",
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
    }
    completed = subprocess.run(
        [*command, *(f"tests/{test}" for test in TESTS)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert re.search(r"\d+ passed in", completed.stdout), "no test may be skipped"


def test_auto_precision_is_bfloat16_with_plugin(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with bfloat16_plugin.forced_bfloat16():
        compute_format = select_compute_format(config, torch.device("cpu"))
    fuses = fused_norm.is_available()
    assert compute_format == ComputeFormat("bfloat16", "channels_last", fused_norm=fuses)
