"""Short versions of the fault injection scenarios of `make chaos`.

Each scenario runs in a subprocess, from which workers can be forked.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.record import RESULTS
from tests.chaos import __main__ as chaos
from tests.chaos.disturbances import Figures
from tests.conftest import RunCommand

RunScenario = Callable[..., Figures]


@pytest.fixture
def run_scenario(command: RunCommand) -> RunScenario:
    """Return a function that runs a scenario with --short, after an optional command prefix."""

    def run(*words: str) -> Figures:
        *prefix, scenario = words
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        chaos = (*prefix, "python", "-m", "tests.chaos", "--short", "--json", "--only", scenario)
        figures: Figures = json.loads(command(*chaos, env=environment, timeout=900).stdout)[
            scenario
        ]
        return figures

    return run


def test_killed_workers_give_undisturbed_results(run_scenario: RunScenario) -> None:
    figures = run_scenario("kills")
    assert figures["runs"] == 25
    assert figures["kills"] >= 40


def test_kill_or_full_disk_at_every_file_operation(run_scenario: RunScenario) -> None:
    """Kill before every file operation, and let each fail with ENOSPC."""
    figures = run_scenario("failpoints")
    assert figures["points"] > 80
    assert figures["kills"] >= figures["points"]
    assert figures["full disks"] > 50


def test_damaged_checkpoints_are_rejected(run_scenario: RunScenario) -> None:
    assert run_scenario("damage")["rejected"] == 100


def test_only_one_of_eight_processes_gets_lease(run_scenario: RunScenario) -> None:
    assert run_scenario("claims")["rounds"] == 100


def test_signal_bursts_during_checkpoints(run_scenario: RunScenario) -> None:
    assert run_scenario("signals")["stops"] >= 4


def test_workers_recover_from_small_disks(
    run_scenario: RunScenario, private_mounts: tuple[str, ...]
) -> None:
    assert run_scenario(*private_mounts, "small disk")["full"] >= 2


def test_deliberately_broken_variants_are_detected(run_scenario: RunScenario) -> None:
    figures = run_scenario("broken variants")
    assert figures["caught"] == figures["variants"] == 5


@pytest.mark.slurm
def test_preemption_and_killed_daemons_on_cluster(run_scenario: RunScenario, cluster: Path) -> None:
    """Preempt workers, kill slurmd and slurmctld, on a separate rehearsal cluster."""
    figures = run_scenario("in turn")
    assert figures["disturbances"] >= 3
    assert figures["jobs failed"] == 0


def test_reliability_table_matches_chaos_results() -> None:
    text = chaos.DOCUMENT.read_text()
    assert text.count(chaos.BEGIN) == text.count(chaos.END) == 1
    table = text.partition(chaos.BEGIN)[2].partition(chaos.END)[0].strip()
    assert table == chaos.markdown(json.loads((RESULTS / chaos.FILE).read_text())["scenarios"])
