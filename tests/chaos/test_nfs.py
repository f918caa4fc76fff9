"""A real NFS is disturbed for a minute; `make chaos ONLY=nfs` does it for longer.

`make test` runs what is marked nfs after all other tests and alone: several machines are emulated.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from src.common import files, paths
from src.runs.run_folder import RunFolder
from tests.chaos import nfs, nfs_guest
from tests.conftest import SBIN, Run, lacking

RUNS, EPOCHS = 2, 2


@pytest.mark.nfs
@pytest.mark.timeout(900)
def test_a_real_nfs(command: Run) -> None:
    """Claims are raced, and sweeps worked on and read, over NFS 3 and 4.2."""
    for program in ("qemu-system-x86_64", "rpc.nfsd", "busybox"):
        if not shutil.which(program, path=SBIN):
            lacking(f"needs {program}: see slurm_cluster/rehearsal/nfs/up.sh")
    if os.getuid():
        lacking("needs root, as slurm_cluster/rehearsal/nfs/up.sh does")
    words = ("python", "-m", "tests.chaos", "--short", "--json", "--only", "nfs")
    told = json.loads(command(*words, timeout=800, fresh=True).stdout)
    assert set(told) == {f"nfs {version}" for version in nfs.VERSIONS}
    for figures in told.values():
        assert figures["races"] == 3 * nfs_guest.TOGETHER
        assert figures["server restarts"] >= 1
        assert figures["files read"] > 50
        assert figures["double owners"] == figures["runs lost or published twice"] == 0
        assert figures["files half-read"] == 0
    assert told["nfs 3"]["taken over"] >= told["nfs 3"]["machines cut off"] == 1
    assert told["nfs 4.2"]["full exports"] == 1
    assert told["nfs 4.2"]["stale exports"] == 2


@pytest.fixture
def worked(tmp_path: Path) -> Path:
    """A sweep that the stand-in for training has worked on, without NFS."""
    log = str(tmp_path / "work.log")
    assert nfs_guest.work(str(tmp_path / "runs"), 0, RUNS, EPOCHS, 0.0, log) == {"lives": 1}
    return tmp_path / "runs"


def _problems(runs_dir: Path) -> list[str]:
    problems: list[str] = nfs_guest.verify(str(runs_dir), 0, RUNS, EPOCHS)["problems"]
    return problems


def test_the_stand_in_leaves_what_a_run_leaves(worked: Path) -> None:
    assert _problems(worked) == []
    events = [
        json.loads(line)["event"] for line in (worked.parent / "work.log").read_text().splitlines()
    ]
    assert events.count("published") == RUNS
    for config in nfs_guest.sweep(RUNS):
        assert RunFolder.of(config, worked).state() == "done"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (paths.HISTORY, lambda data: data[:-5]),
        (paths.HISTORY, lambda data: data[: data.index(b"\n") + 1]),
        (paths.weights("best_val_acc"), lambda data: data[:-1]),
        (paths.RESULT, lambda data: data.replace(b"completed", b"pruned")),
        (paths.RESULT, lambda data: b""),
        (f"{paths.ATTEMPTS}/1.json", lambda data: data[:20]),
        (f"{paths.ATTEMPTS}/2.json", lambda data: b'{"attempt": 2, "ended": "done"}'),
        (paths.RESUME, lambda data: b"left"),
    ],
)
def test_what_is_not_whole_is_noticed(worked: Path, name: str, damage: object) -> None:
    assert callable(damage)
    path = RunFolder.of(nfs_guest.sweep(1)[0], worked).path / name
    path.write_bytes(damage(path.read_bytes() if path.exists() else b""))
    if name == paths.RESUME:  # which would be removed, as by the next worker
        files.write_once(path.with_name("left"), b"")
    assert _problems(worked)
