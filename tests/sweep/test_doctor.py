"""python -m src.sweep doctor: a healthy cluster, and what it says of ones that are broken."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from src.cli.terminal import console
from src.common.errors import ExitStatus
from src.common.paths import ROOT
from src.slurm import client
from src.slurm.partitions import parse_node_groups
from src.sweep.commands import doctor
from src.sweep.doctor import folder_checks, probe, probe_job
from src.sweep.doctor.checks import Check, Level, checks_table, wrong
from src.sweep.doctor.cluster_checks import partition_checks, setting_checks
from src.sweep.doctor.folder_checks import data_check, group_check, runs_folder_checks
from src.sweep.doctor.probe_job import in_words, report_checks
from src.sweep.launch.sbatch import Resources

SINFO = """gpu*|up|1-00:00:00|3|idle|gpu:a100:4(S:0-1)
gpu*|up|1-00:00:00|1|down*|gpu:a100:4(S:0-1)
cpu|up|infinite|8|mixed|(null)
old|up|infinite|2|drained|gpu:v100:1
closed|down|infinite|2|idle|gpu:1
a line that cannot be read
"""
REPORT: dict[str, Any] = {
    **{"node": "n1", "python": "3.11", "torch": "2.15", "gpus": 1, "problems": []},
    **{"sees_other": True, "signal": True},
}
REPORTS = {0: {**REPORT, "task": 0}, 1: {**REPORT, "task": 1, "node": "n2"}}


def levels(checks: Iterable[Check]) -> dict[str, str]:
    return {check.name: check.level.value for check in checks}


def only_bad(checks: Iterable[Check]) -> Check:
    [check] = [check for check in checks if check.level is not Level.OK]
    assert check.help
    return check


def test_findings_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Log lines, messages and paths contain brackets and colons."""
    found = wrong("data", "[rank0] of [/data/x] :warning:", "see [red]")
    console().print(checks_table([found]))
    shown = capsys.readouterr().out
    for text in (found.finding, found.help, " wrong "):
        assert text in shown


def test_working_partition_is_ok() -> None:
    nodes = parse_node_groups(SINFO)
    assert len(nodes) == 5
    found = list(partition_checks(nodes, Resources()))
    assert levels(found) == {"partition": "ok", "time limit": "ok", "GPUs": "ok"}
    assert found[0].finding == "gpu: 3 of 4 nodes work"


@pytest.mark.parametrize(
    ("state", "works"),
    [
        ("planned", True),
        ("allocated+", True),
        ("mixed-", True),
        ("idle~", True),
        ("down*", False),
        ("drained", False),
    ],
)
def test_nodes_that_take_jobs_now_or_later_work(state: str, works: bool) -> None:
    [nodes] = parse_node_groups(f"gpu*|up|1-00:00:00|3|{state}|(null)")
    assert nodes.is_working is works


@pytest.mark.parametrize(
    ("resources", "name", "finding"),
    [
        (Resources(partition="none"), "partition", "none: unknown"),
        (Resources(partition="old", gres="gpu:v100:1"), "partition", "no node works (drained)"),
        (Resources(partition="closed"), "partition", "closed: down"),
        (Resources(minutes=3000), "time limit", "3000 minutes are asked for, gpu admits 1440"),
        (Resources(minutes_of={"vit": 2000}), "time limit", "2000 minutes"),
        (Resources(partition="cpu"), "GPUs", "no node has gpu:1; there is none"),
        (Resources(gres="gpu:h100:1"), "GPUs", "no node has gpu:h100:1; there is gpu:a100:4"),
        (Resources(gres="gpu:8"), "GPUs", "no node has gpu:8"),
    ],
)
def test_what_a_partition_lacks_is_wrong(resources: Resources, name: str, finding: str) -> None:
    check = only_bad(partition_checks(parse_node_groups(SINFO), resources))
    assert (check.name, check.level) == (name, Level.WRONG)
    assert finding in check.finding


def test_types_of_gpus_may_begin_with_digits() -> None:
    nodes = parse_node_groups("gpu*|up|1-00:00:00|3|idle|gpu:2080ti:4(S:0-1),shard:8")
    assert levels(partition_checks(nodes, Resources(gres="gpu:2080ti:4")))["GPUs"] == "ok"
    for gres in ("gpu:8", "gpu:2080ti:8", "gpu:3090:1", "shard:1,gpu:a100:1"):
        check = only_bad(partition_checks(nodes, Resources(gres=gres)))
        assert (check.name, check.finding.split(";")[0]) == ("GPUs", f"no node has {gres}")


def test_each_of_several_partitions_is_checked() -> None:
    nodes = parse_node_groups(SINFO)
    found = list(partition_checks(nodes, Resources(partition="gpu,cpu", gres=None)))
    assert [check.finding for check in found if check.name == "partition"] == [
        "gpu: 3 of 4 nodes work",
        "cpu: 8 of 8 nodes work",
    ]
    check = only_bad(partition_checks(nodes, Resources(partition="gpu,none", gres=None)))
    assert check.finding == "none: unknown"


def test_missing_default_partition_names_the_known() -> None:
    nodes = [replace(node, is_default=False) for node in parse_node_groups(SINFO)]
    check = only_bad(partition_checks(nodes, Resources()))
    assert (check.finding, check.help) == (
        "there is no default",
        "--partition one of: gpu, cpu, old, closed",
    )


@pytest.mark.parametrize(
    ("settings", "name", "level"),
    [
        ({"PreemptMode": "CANCEL"}, "preemption", "warning"),
        ({"PreemptMode": "GANG,SUSPEND"}, "preemption", "warning"),
        ({"AccountingStorageType": "accounting_storage/none"}, "accounting", "warning"),
        ({"MaxArraySize": "1"}, "job arrays", "wrong"),
    ],
)
def test_settings_that_disturb_a_sweep_are_named(
    settings: dict[str, str], name: str, level: str
) -> None:
    healthy = {"PreemptMode": "REQUEUE", "AccountingStorageType": "x", "MaxArraySize": "1001"}
    assert set(levels(setting_checks(healthy)).values()) == {"ok"}
    check = only_bad(setting_checks({**healthy, **settings}))
    assert (check.name, check.level.value) == (name, level)


def test_runs_folder_is_left_as_it_was(tmp_path: Path) -> None:
    assert levels(runs_folder_checks(tmp_path / "runs"))["runs folder"] == "ok"
    assert list((tmp_path / "runs").iterdir()) == []


def test_file_system_without_hard_links_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    checks = {check.name: check for check in runs_folder_checks(tmp_path)}
    assert checks["runs folder"].level is Level.WRONG
    assert "link(2): Operation not permitted" in checks["runs folder"].finding


def test_file_system_that_makes_a_file_twice_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", os.replace)
    checks = {check.name: check for check in runs_folder_checks(tmp_path)}
    assert "a file was made twice" in checks["runs folder"].finding


def test_runs_folder_that_cannot_be_made_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [check] = runs_folder_checks(tmp_path / "file" / "runs")
    assert (check.name, check.level) == ("runs folder", Level.WRONG)
    assert "Not a directory" in check.finding


def test_local_file_system_and_little_space_are_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    monkeypatch.setattr(folder_checks, "_MOUNTS", mounts)
    mounts.write_text(f"x / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    assert levels(runs_folder_checks(tmp_path / "runs"))["file system"] == "ok"
    mounts.write_text("x / ext4 rw 0 0\n")
    monkeypatch.setattr(folder_checks, "_LITTLE_BYTES", 1e18)
    found = levels(runs_folder_checks(tmp_path / "runs"))
    assert (found["file system"], found["free space"]) == ("warning", "warning")


def test_group_rights_need_setgid_write_and_umask(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    assert group_check(tmp_path, 0o775).level is Level.OK
    assert group_check(tmp_path, 0o755).level is Level.WARNING
    tmp_path.chmod(0o775)
    assert "chmod g+ws" in group_check(tmp_path, 0o775).help


def test_missing_and_damaged_data_are_named(tmp_path: Path) -> None:
    assert data_check("synthetic", "cifar10").level is Level.OK
    assert data_check(str(tmp_path / "none"), "cifar10").level is Level.WARNING
    assert data_check(str(tmp_path), "cifar10").level is Level.WRONG


@pytest.mark.parametrize(
    ("change", "name", "level", "finding"),
    [
        ({"problems": ["ModuleNotFoundError: torch"]}, "environment of jobs", "wrong", "torch"),
        ({"sees_other": False}, "shared file system", "wrong", "does not see"),
        ({"node": "n2"}, "shared file system", "warning", "both tasks ran on n2"),
        ({"signal": False}, "signals", "warning", "did not arrive"),
    ],
)
def test_reports_of_probe_become_checks(
    change: dict[str, object], name: str, level: str, finding: str
) -> None:
    assert set(levels(report_checks(REPORTS, None, "")).values()) == {"ok"}
    check = only_bad(report_checks({**REPORTS, 0: {**REPORTS[0], **change}}, None, ""))
    assert (check.name, check.level.value) == (name, level)
    assert finding in check.finding


def test_job_whose_gpu_torch_does_not_see_is_named() -> None:
    reports = {task: {**report, "device": "NVIDIA H200"} for task, report in REPORTS.items()}
    found = {one.name: one for one in report_checks(reports, None, "", has_gpu=True)}
    assert (found["GPUs of jobs"].level, found["GPUs of jobs"].finding) == (
        Level.OK,
        "NVIDIA H200",
    )
    without = {**reports, 1: {**reports[1], "gpus": 0}}
    check = only_bad(report_checks(without, None, "", has_gpu=True))
    assert (check.level, "torch sees none on n2" in check.finding) == (Level.WARNING, True)
    assert "GPUs of jobs" not in levels(report_checks(without, None, ""))


def test_request_is_told_in_words() -> None:
    given = Resources(
        partition="gpu", qos="high", mem="32G", additional_parameters={"exclusive": ""}
    )
    expected = "partition gpu, qos high, gpu:1, 4 CPUs, 32G of memory, 1440 minutes, exclusive"
    assert in_words(given) == expected
    assert in_words(Resources(gres=None)) == "the default partition, no GPU, 4 CPUs, 1440 minutes"


def test_probe_that_waits_or_says_nothing_is_named() -> None:
    assert "Resources" in only_bad(report_checks({}, "Resources", "")).finding
    check = only_bad(report_checks({}, None, "No module named src"))
    assert (check.level, "No module named src" in check.finding) == (Level.WRONG, True)
    assert only_bad(report_checks({0: REPORTS[0]}, None, "")).name == "shared file system"


@pytest.mark.parametrize("signalled_first", [False, True])
def test_probe_sees_a_partner_that_starts_minutes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signalled_first: bool
) -> None:
    mine, now = tmp_path / "probe-0.json", [0.0]
    first, last = (_send_signal, _start_partner)[:: 1 if signalled_first else -1]

    def sleep(seconds: float) -> None:
        now[0] += max(seconds, 1.0)
        if now[0] == 100:
            first(tmp_path)
        if now[0] == 200:
            seen = json.loads(mine.read_text())
            assert (seen["signal"], seen["sees_other"]) == (signalled_first, not signalled_first)
            last(tmp_path)

    monkeypatch.setattr(probe, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now[0]))
    monkeypatch.setattr(probe, "_environment", lambda *_: {"problems": []})
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    before = signal.getsignal(signal.SIGUSR1)
    try:
        probe.main([str(tmp_path), "synthetic", "cifar10"])
    finally:
        signal.signal(signal.SIGUSR1, before)
    report = json.loads(mine.read_text())
    assert (report["signal"], report["sees_other"]) == (True, True)


def _send_signal(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def _start_partner(folder: Path) -> None:
    (folder / "probe-1.json").write_text("{}")


def test_probe_job_lasts_as_long_as_both_tasks_are_waited_for() -> None:
    assert probe_job._minutes(10) == 5
    assert probe_job._minutes(1800) >= 2 * 1800 / 60


def diagnose(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, str]]:
    status = doctor.main([*map(str, words), "-d", "synthetic", "--json"])
    found = json.loads(capsys.readouterr().out)
    return status, {check["name"]: check["level"] for check in found}


@pytest.fixture(autouse=True)
def _fresh_settings() -> None:
    client.cluster_config.cache_clear()


def test_machine_without_slurm_is_wrong_and_the_rest_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    status, found = diagnose(capsys, "--runs", tmp_path / "runs")
    assert status == ExitStatus.SOME_RUNS_FAILED
    assert (found["Slurm's commands"], found["runs folder"], found["data"]) == ("wrong", "ok", "ok")
    assert "probe job" not in found


@pytest.mark.slurm
def test_healthy_cluster_is_ok(
    cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--runs", tmp_path / "runs", "--wait", 120, "--cpus", 4)
    status, found = diagnose(capsys, *words)
    assert status == ExitStatus.DONE, found
    bad = {name for name, level in found.items() if level != "ok"}
    expected = {"file system", "free space", "group rights", "GPUs of jobs"}
    assert bad <= expected, "one machine, one local disk, GPUs that are files"
    for name in (
        "request",
        "probe job",
        "environment of jobs",
        "shared file system",
        "signals",
        "GPUs",
    ):
        assert found[name] == "ok"
    assert list((tmp_path / "runs").iterdir()) == [], "nothing is left"


BREAKAGES = {
    "unknown partition": ("partition", "", "", ["--partition", "nowhere"]),
    "partition down": (
        "partition",
        "partitionname=gpu state=down",
        "partitionname=gpu state=up",
        [],
    ),
    "nodes drained": (
        "partition",
        "nodename=n[1-4] state=drain reason=broken",
        "nodename=n[1-4] state=resume",
        [],
    ),
    "short time limit": (
        "time limit",
        "partitionname=gpu maxtime=60",
        "partitionname=gpu maxtime=infinite",
        [],
    ),
    "no such GPU": ("GPUs", "", "", ["--gres", "gpu:h100:1"]),
    "no such feature": ("request", "", "", ["--constraint", "no-node-has-this"]),
    "too much memory": ("request", "", "", ["--mem", "900G"]),
}
"""The check that names it, what scontrol updates before and after, and the request."""


@pytest.mark.slurm
@pytest.mark.parametrize("breakage", list(BREAKAGES))
def test_broken_clusters_are_named(
    cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], breakage: str
) -> None:
    name, before, after, words = BREAKAGES[breakage]
    update = ["scontrol", "update"]
    if before:
        subprocess.run([*update, *before.split()], check=True)
    try:
        status, found = diagnose(capsys, "--runs", tmp_path / "runs", *words)
    finally:
        if after:
            subprocess.run([*update, *after.split()], check=True)
    assert (status, found[name]) == (ExitStatus.SOME_RUNS_FAILED, "wrong"), found


@pytest.mark.slurm
def test_controller_that_does_not_answer_is_named(
    cluster: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "none.conf"))
    client.cluster_config.cache_clear()
    status, found = diagnose(capsys, "--runs", tmp_path / "runs")
    assert (status, found["controller"]) == (ExitStatus.SOME_RUNS_FAILED, "wrong")


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("folder", "name", "finding"),
    [
        ("runs", "probe job", "wrote nothing to the runs folder"),
        ("data", "environment of jobs", "mine.npz: not there"),
    ],
)
def test_folder_of_the_login_node_alone_is_named(
    cluster: Path, tmp_path: Path, folder: str, name: str, finding: str
) -> None:
    """The command sees a file system that is mounted for it alone; nodes see an empty folder."""
    place, archive = tmp_path / folder, tmp_path / "mine.npz"
    place.mkdir()
    np.savez(archive, images=np.zeros((60, 32, 32, 3), np.uint8), labels=np.arange(60) % 3)
    data = [place / "mine.npz", "--dataset", "mine"] if folder == "data" else ["synthetic"]
    words = ["--runs", tmp_path / "runs", "--wait", 10, "--json", "-d", *data]
    script = f"mount -t tmpfs none {place}; cp {archive} {place}; exec {sys.executable} "
    script += f"-m src.sweep doctor {' '.join(map(str, words))}"
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-ec", script], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == ExitStatus.SOME_RUNS_FAILED, done.stderr
    [check] = [one for one in json.loads(done.stdout) if one["level"] == "wrong"]
    assert check["name"] == name
    assert finding in check["finding"]
