"""Disturbed sweeps in minutes; `make chaos` disturbs them more often.

Each scenario is a process of its own, from which workers can be forked.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.record import RESULTS
from tests.chaos import __main__ as chaos
from tests.chaos.monkeys import Figures
from tests.conftest import RunCommand

Disturbed = Callable[..., Figures]


@pytest.fixture
def disturbed(command: RunCommand) -> Disturbed:
    """The figures of a scenario, in short; first what its command begins with."""

    def run(*words: str) -> Figures:
        *before, scenario = words
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        chaos = (*before, "python", "-m", "tests.chaos", "--short", "--json", "--only", scenario)
        figures: Figures = json.loads(command(*chaos, env=environment, timeout=900).stdout)[
            scenario
        ]
        return figures

    return run


def test_killed_workers_lose_nothing(disturbed: Disturbed) -> None:
    figures = disturbed("kills")
    assert figures["runs"] == 25
    assert figures["kills"] >= 40


def test_every_file_operation_may_be_the_last(disturbed: Disturbed) -> None:
    """Or the one before it, or find no space."""
    figures = disturbed("failpoints")
    assert figures["points"] > 80
    assert figures["kills"] == 2 * figures["points"]
    assert figures["full disks"] > 50


def test_damaged_checkpoints_are_noticed(disturbed: Disturbed) -> None:
    assert disturbed("damage")["rejected"] == 100


def test_of_eight_claimants_one_wins(disturbed: Disturbed) -> None:
    assert disturbed("claims")["rounds"] == 100


def test_bursts_of_signals_while_checkpoints_are_written(disturbed: Disturbed) -> None:
    assert disturbed("signals")["stops"] >= 4


def test_small_disks(disturbed: Disturbed, private_mounts: tuple[str, ...]) -> None:
    assert disturbed(*private_mounts, "small disk")["full"] >= 2


def test_what_is_broken_on_purpose_is_caught(disturbed: Disturbed) -> None:
    figures = disturbed("broken variants")
    assert figures["caught"] == figures["variants"] == 5


@pytest.mark.slurm
def test_on_a_cluster(disturbed: Disturbed, cluster: Path) -> None:
    """Workers are preempted, slurmd and slurmctld are killed, on a cluster for this alone."""
    figures = disturbed("in turn")
    assert figures["disturbances"] >= 3
    assert figures["jobs failed"] == 0


def test_the_documents_table_is_that_of_the_results() -> None:
    text = chaos.DOCUMENT.read_text()
    assert text.count(chaos.BEGIN) == text.count(chaos.END) == 1
    table = text.partition(chaos.BEGIN)[2].partition(chaos.END)[0].strip()
    assert table == chaos.markdown(json.loads((RESULTS / chaos.FILE).read_text())["scenarios"])
