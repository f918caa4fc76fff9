"""Disturbed sweeps in minutes; `make chaos` disturbs them more often.

Each scenario is a process of its own, from which workers can be forked.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.paths import ROOT
from tests.chaos.monkeys import Figures


def disturbed(scenario: str, *before: str) -> Figures:
    """The figures of a scenario, in short. before: what its command begins with."""
    done = subprocess.run(
        [*before, sys.executable, "-m", "tests.chaos", "--short", "--json", "--only", scenario],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    figures: Figures = json.loads(done.stdout)[scenario]
    return figures


def test_killed_workers_lose_nothing() -> None:
    figures = disturbed("kills")
    assert figures["runs"] == 25
    assert figures["kills"] >= 40


def test_every_file_operation_may_be_the_last() -> None:
    """Of the hundreds of writes to one file every tenth; `make chaos` does all."""
    figures = disturbed("failpoints")
    assert figures["points"] > 100
    assert figures["kills"] == 2 * figures["points"]
    assert figures["full disks"] > 50


def test_damaged_checkpoints_are_noticed() -> None:
    assert disturbed("damage")["rejected"] == 100


def test_of_eight_claimants_one_wins() -> None:
    assert disturbed("claims")["rounds"] == 100


def test_bursts_of_signals_while_checkpoints_are_written() -> None:
    assert disturbed("signals")["stops"] >= 4


def test_small_disks(own_mounts: tuple[str, ...]) -> None:
    assert disturbed("small disk", *own_mounts)["full"] >= 2


def test_what_is_broken_on_purpose_is_caught() -> None:
    figures = disturbed("broken variants")
    assert figures["caught"] == figures["variants"] == 5


@pytest.mark.slurm
def test_on_a_cluster(cluster: Path) -> None:
    """Workers are preempted, slurmd and slurmctld are killed, on a cluster for this alone."""
    figures = disturbed("in turn")
    assert figures["disturbances"] >= 3
    assert figures["jobs failed"] == 0
