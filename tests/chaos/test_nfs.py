"""A real NFS is disturbed for a minute; `make chaos ONLY=nfs` does it for longer.

`make test` runs what is marked nfs after all other tests and alone: several machines are emulated.
"""

import json
import os
import random
import shutil
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import pytest

from src.common import files, paths
from src.runs.run_folder import RunFolder
from tests.chaos import __main__ as chaos
from tests.chaos import nfs, nfs_guest
from tests.chaos.world import Broken
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
        assert set(figures) == {*nfs.FIGURES, "seconds"}
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


def _event(event: str, **more: object) -> dict[str, object]:
    return {"event": event, "machine": "node1", "run": "a", "attempt": 1, **more}


GOOD = [_event("lease"), _event("published")]


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([_event("lease"), *GOOD], "two owners"),
        ([*GOOD, _event("lease", attempt=2)], "trained again"),
        ([*GOOD, _event("published")], "published twice"),
        ([_event("lease"), _event("published", attempt=2)], "published twice"),
        ([*GOOD, _event("half", text="a part")], "a part"),
        ([*GOOD, _event("crash", text="a bug")], "a bug"),
        ([*GOOD, _event("error", errno="EIO", text="...")], "EIO"),
        ([*GOOD, _event("read error", errno="ENOSPC", text="...")], ""),
        (GOOD, ""),
    ],
)
def test_the_harness_notices(events: list[dict[str, object]], fault: str) -> None:
    part = nfs.Part(mock.Mock(), "3", random.Random(0))
    verified = {"problems": [], "results": {"a": 1}}
    with pytest.raises(Broken, match=fault) if fault else nullcontext():
        part._require_whole(events, verified, [nfs.fill])


def test_the_harness_notices_a_race_without_one_owner() -> None:
    hosts = {f"{place}/1": "node1" for place in range(nfs_guest.TOGETHER)}
    claims = [{"claim": claim, "host": host} for claim, host in hosts.items()]
    nfs._require_one_owner(claims, 1, [hosts, hosts])
    for wrong in (claims[1:], [*claims, claims[0]]):
        with pytest.raises(Broken, match="owner"):
            nfs._require_one_owner(wrong, 1, [hosts])
    with pytest.raises(Broken, match="in the files"):
        nfs._require_one_owner(claims, 1, [{**hosts, "0/1": "node2"}])


def test_figures_of_parts_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For NFS; of the other scenarios the last figures stay."""
    document = tmp_path / "reliability.md"
    document.write_text(f"before\n{chaos.BEGIN}\n{chaos.END}\n")
    monkeypatch.setattr(chaos, "RESULTS", tmp_path)
    monkeypatch.setattr(chaos, "DOCUMENT", document)
    for add in (False, True, True):
        chaos._write("nfs 3", {"races": 10, "double owners": 0}, add=add)
        chaos._write("claims", {"rounds": 3}, add=add)
    assert "| nfs 3 | 3 parts, 30 races, 0 double owners |" in document.read_text()
    assert "| claims | 3 rounds |" in document.read_text()
    chaos._write("nfs 3", {"races": 10, "double owners": 0}, add=False)
    assert "| nfs 3 | 1 parts, 10 races, 0 double owners |" in document.read_text()
