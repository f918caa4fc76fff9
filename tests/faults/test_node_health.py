"""Which nodes count as bad, and what the restarts of a job have achieved."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src.common.errors import ExitStatus, NodeFailure, Restart
from src.faults.job_restarts import plan_restart
from src.faults.node_health import (
    BAD_FOR_SECONDS,
    bad_nodes,
    forget_node_failures,
    reporting_unusable_process,
)
from src.sweep.commands import retry

Failing = Callable[[str, str], None]
ECC = "CUDA error: uncorrectable ECC error encountered"
NO_DEVICE = "CUDA error: no CUDA-capable device is detected"
OLD_DRIVER = "CUDA driver version is insufficient for CUDA runtime version"


@pytest.fixture
def fail_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Return a function with which a worker on a node fails with a message."""

    def fail(node: str, message: str) -> None:
        monkeypatch.setenv("SLURMD_NODENAME", node)
        with pytest.raises(NodeFailure), reporting_unusable_process(tmp_path):
            raise RuntimeError(message)

    return fail


def trained_on(runs: Path, node: str, ended: str = "done") -> Path:
    """Write the record of an attempt that trained on a node."""
    path = runs / "cnn" / f"run-{node}" / "attempts" / "1.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"attempt": 1, "node": node, "ended": ended}))
    return path


def test_second_hardware_failure_makes_node_bad_for_a_day(tmp_path: Path, fail_on: Failing) -> None:
    fail_on("n7", ECC)
    assert bad_nodes(tmp_path) == []
    fail_on("n7", "CUDA error: GPU is lost")
    fail_on("n8", ECC)
    assert bad_nodes(tmp_path) == ["n7"], "an ECC error of another node is that node's own"
    yesterday = time.time() - BAD_FOR_SECONDS - 60
    for path in tmp_path.glob("node_failures/*.json"):
        os.utime(path, (yesterday, yesterday))
    assert bad_nodes(tmp_path) == []


def test_failed_initialisation_counts_only_while_others_succeed(
    tmp_path: Path, fail_on: Failing
) -> None:
    for _ in range(3):
        fail_on("n7", NO_DEVICE)
    assert bad_nodes(tmp_path) == [], "nothing shows that it works anywhere"
    trained_on(tmp_path, "n7")
    assert bad_nodes(tmp_path) == []
    failed = trained_on(tmp_path, "n8", "failed")
    assert bad_nodes(tmp_path) == []
    failed.unlink()
    record = trained_on(tmp_path, "n8", "stopped")
    assert bad_nodes(tmp_path) == ["n7"]
    os.utime(record, (0, 0))
    assert bad_nodes(tmp_path) == []


def test_failure_that_two_nodes_share_is_neither_ones_fault(
    tmp_path: Path, fail_on: Failing
) -> None:
    trained_on(tmp_path, "n9")
    for _ in range(2):
        fail_on("n7", OLD_DRIVER)
    assert bad_nodes(tmp_path) == ["n7"]
    fail_on("n8", OLD_DRIVER)
    assert bad_nodes(tmp_path) == []


def test_retry_readmits_nodes(
    tmp_path: Path, fail_on: Failing, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        fail_on("n7", ECC)
    assert retry.main(["--all", "--dry-run", "--runs", str(tmp_path)]) == ExitStatus.DONE
    assert bad_nodes(tmp_path) == ["n7"]
    assert retry.main(["--all", "--runs", str(tmp_path)]) == ExitStatus.DONE
    assert "node n7: its failure records are deleted" in capsys.readouterr().out
    assert bad_nodes(tmp_path) == []
    assert forget_node_failures(tmp_path) == []


def test_restarts_without_progress_are_counted_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "one")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)

    def counts(*progressed: bool) -> list[int]:
        plans = [plan_restart(tmp_path, progressed=made) for made in progressed]
        return [plan.without_progress for plan in plans]

    assert counts(False, False, True, False) == [1, 2, 0, 1]
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    assert counts(False) == [1], "each job counts for itself"
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "two")
    assert counts(False) == [1], "a job of another cluster may have the same id"
    monkeypatch.delenv("SLURM_JOB_ID")
    assert plan_restart(tmp_path / "none", progressed=False) == Restart()
    assert not (tmp_path / "none").exists()


def test_restart_excludes_bad_nodes_and_readmits_recovered_ones(
    tmp_path: Path, fail_on: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "one")
    for _ in range(2):
        fail_on("n7", ECC)
    assert plan_restart(tmp_path, progressed=True) == Restart(exclude=("n7",))
    assert plan_restart(tmp_path, progressed=True) == Restart(exclude=("n7",))
    forget_node_failures(tmp_path)
    assert plan_restart(tmp_path, progressed=True) == Restart(readmit=("n7",))
    assert plan_restart(tmp_path, progressed=True) == Restart()
