"""Run folders: states, leases, heartbeats, results."""

import builtins
import errno
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from src.common import files
from src.common.errors import LeaseLost, UserError
from src.config import RunConfig
from src.runs import aggregate, leases
from src.runs.history import HistoryFile
from src.runs.run_folder import RunFolder, State, all_runs
from src.runs.run_queue import RunQueue
from src.sweep.status import run_states
from tests.runs.histories import write_history

RESULT = {"run_id": "x", "test_accuracy_best_val_acc": 0.5}


@pytest.fixture
def folder(config: RunConfig, tmp_path: Path) -> RunFolder:
    run_folder = RunFolder.of(config, tmp_path)
    run_folder.register(config)
    return run_folder


def test_cells_with_same_id_share_a_folder(config: RunConfig, tmp_path: Path) -> None:
    cells = [replace(config, scheduler="cosine", gamma=gamma) for gamma in (0.95, 0.97, 0.99)]
    folders = [RunFolder.of(cell, tmp_path) for cell in cells]
    assert len({f.path for f in folders}) == 1
    for folder, cell in zip(folders, cells, strict=True):
        folder.register(cell)
    assert [cell["gamma"] for cell in folders[0].cells()] == [0.95, 0.97, 0.99]
    path = folders[0].path
    assert path.parent.name == "cifar10net"
    assert path.name == f"{cells[0].canonical().name}-{cells[0].id}"
    assert RunConfig(**folders[0].config() or {}).id == cells[0].id


def test_state_follows_from_files(folder: RunFolder) -> None:
    assert folder.state() == State.PENDING
    lease = leases.acquire(folder.path)
    assert lease
    assert folder.state() == State.RUNNING
    lease.end("stopped")
    assert folder.state() == State.INTERRUPTED
    folder.write_failure({"kind": "x"})
    assert folder.state() == State.FAILED
    assert folder.write_result(RESULT)
    assert folder.state() == State.DONE
    assert folder.failure() is None


def test_damaged_result_counts_as_missing(folder: RunFolder) -> None:
    for text in ("", "{", json.dumps({"run_id": "x"})):
        (folder.path / "result.json").write_text(text)
        assert folder.state() == State.PENDING
    assert folder.write_result(RESULT)
    assert not folder.write_result({**RESULT, "test_accuracy_best_val_acc": 0.9})
    assert folder.result() == RESULT


def test_machines_register_a_run_at_the_same_moment(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS may lose the reply to a rename(2), and another machine rename its own file over ours."""
    create_json = files.create_json

    def refuse(source: str, target: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)

    def create_after_another(path: Path, value: dict[str, Any]) -> bool:
        path.write_text(files.to_json(value))  # by another machine, since we looked for it
        return create_json(path, value)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(files, "create_json", create_after_another)
    folder = RunFolder.of(config, tmp_path)
    folder.register(config)
    assert folder.run_config().id == config.id
    assert [cell["seed"] for cell in folder.cells()] == [config.seed]


def test_missing_or_damaged_config_is_not_taken_for_the_defaults(folder: RunFolder) -> None:
    file = folder.path / "config.json"
    for damage in (lambda: file.write_text("{"), file.unlink):
        damage()
        with pytest.raises(UserError, match=r"no config\.json in it that can be read"):
            folder.run_config()


def test_failed_run_is_given_up_after_its_retries(folder: RunFolder) -> None:
    for number in (1, 2):
        assert not folder.is_given_up(retries=1)
        lease = leases.acquire(folder.path)
        assert lease
        folder.write_failure({"kind": "OSError", "retry": True, "attempt": number})
        lease.end("failed")
    assert folder.is_given_up(retries=1)
    assert not folder.is_given_up(retries=2)
    assert not folder.is_given_up()
    folder.write_failure({"kind": "non-finite loss", "retry": False})
    assert folder.is_given_up()


def test_only_newest_lease_can_write_history(folder: RunFolder) -> None:
    first = leases.acquire(folder.path)
    assert first
    assert leases.acquire(folder.path) is None
    first.end("stopped")
    second = leases.acquire(folder.path)
    assert second
    assert second.number == 2
    first_again = HistoryFile(folder, first)
    with pytest.raises(LeaseLost):
        write_history(first_again, [{"epoch": 1}])
    assert folder.history() == []
    write_history(HistoryFile(folder, second), [{"epoch": 1}])
    assert folder.history() == [{"epoch": 1}]
    second.end("done")


def _take_over(folder: RunFolder) -> None:
    """As another machine does it, to which we have been dead."""
    (folder.path / "attempts" / "2.json").write_text('{"attempt": 2}')
    folder.write_history([{"epoch": 1}, {"epoch": 2}])


def test_lost_lease_is_noticed_despite_stale_cache(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS client may answer for a minute that a file of another machine does not exist."""
    lease = leases.acquire(folder.path)
    assert lease
    lease.ensure_held()
    _take_over(folder)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    with pytest.raises(LeaseLost):
        lease.ensure_held()
    lease.end("superseded")


def test_history_is_not_replaced_after_lease_is_lost_while_writing(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a machine that was cut off its file system in the middle of a write."""
    lease = leases.acquire(folder.path)
    assert lease
    sync = files.sync_file

    def cut_off(file: IO[bytes]) -> None:
        sync(file)
        monkeypatch.undo()
        _take_over(folder)

    monkeypatch.setattr(files, "sync_file", cut_off)
    with pytest.raises(LeaseLost):
        write_history(HistoryFile(folder, lease), [{"epoch": 1}])
    assert folder.history() == [{"epoch": 1}, {"epoch": 2}]
    lease.end("superseded")


def test_removed_temporary_file_means_lost_lease(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine was cut off between the last look at the lease and the rename."""
    lease = leases.acquire(folder.path)
    assert lease
    replace = os.replace

    def cut_off(source: str, target: Path) -> None:
        monkeypatch.undo()
        os.unlink(source)
        _take_over(folder)
        replace(source, target)

    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(LeaseLost):
        write_history(HistoryFile(folder, lease), [{"epoch": 1}])
    assert folder.history() == [{"epoch": 1}, {"epoch": 2}]
    lease.end("superseded")


def test_result_of_other_process_is_not_removed(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or two processes would publish, one after the other: only what was damaged is removed."""
    unlink, removed = Path.unlink, []

    def note(path: Path, missing_ok: bool = False) -> None:
        removed.append(path.name)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", note)
    assert folder.write_result(RESULT)
    assert "result.json" not in removed


@pytest.mark.parametrize("read", [lambda path: list(all_runs(path)), aggregate.collect])
def test_unreadable_runs_folder_raises(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], Any]
) -> None:
    """An export that is withdrawn for a moment must not give an empty table."""

    def refuse(path: object = ".") -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        read(tmp_path)


class _Cache:
    """Of an NFS client: files that were missing are missing until their folder is opened."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.missing: set[str] = set()
        for module, name in ((builtins, "open"), (io, "open"), (os, "stat")):
            patch.setattr(module, name, self._looking_up(getattr(module, name)))
        for name in ("listdir", "scandir", "open"):
            patch.setattr(os, name, self._asking(getattr(os, name)))

    def _looking_up(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def look_up(path: Any, *words: Any, **named: Any) -> Any:
            if str(path) in self.missing:
                raise FileNotFoundError(errno.ENOENT, "from the cache", str(path))
            try:
                return call(path, *words, **named)
            except FileNotFoundError:
                self.missing.add(str(path))
                raise

        return look_up

    def _asking(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def ask(path: Any = ".", *words: Any, **named: Any) -> Any:
            self.missing = {name for name in self.missing if os.path.dirname(name) != str(path)}
            return call(path, *words, **named)

        return ask


def test_run_finished_by_other_machine_is_not_trained_again(
    folder: RunFolder, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if this NFS client has just seen that there is no result, and remembers that."""
    client, ended = _Cache(monkeypatch), []
    queue = RunQueue([config], tmp_path)
    queue.on_ended = lambda number, line: ended.append(line)
    assert len(queue.pending) == 1
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(client, "missing", set())
        lease = leases.acquire(folder.path)
        assert lease
        assert folder.write_result(RESULT)
        lease.end("done")
    client.missing.add(str(folder.path / "result.json"))
    assert folder.result() is None, "the cache says so"
    assert queue.take() is None
    assert "ended by another process" in ended[0]


def test_lease_of_dead_process_is_taken_over(folder: RunFolder) -> None:
    code = (
        "import sys, os; from pathlib import Path; from src.runs import leases\n"
        "leases.acquire(Path(sys.argv[1])); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, folder.path], check=False)
    assert folder.state() == State.INTERRUPTED
    lease = leases.acquire(folder.path)
    assert lease
    assert lease.number == 2
    lease.end("done")


def test_may_be_alive_checks_process_and_slurm_restart(
    monkeypatch: pytest.MonkeyPatch, folder: RunFolder
) -> None:
    lease = leases.acquire(folder.path)
    assert lease
    record = leases.latest(folder.path)
    lease.end("stopped")
    assert record
    assert leases.may_be_alive(record)
    assert not leases.may_be_alive({**record, "ended": "stopped"})
    reused_pid = {**record["process"], "start": record["process"]["start"] - 100}
    assert not leases.may_be_alive({**record, "process": reused_pid})
    elsewhere = {**record, "process": {**record["process"], "machine": "other"}}
    assert leases.may_be_alive(elsewhere), "a process on an unknown machine counts as alive"
    own_job = {**elsewhere, "slurm_job_id": "7", "slurm_restart_count": 0}
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert leases.may_be_alive(own_job)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert not leases.may_be_alive(own_job), "a lease from before our own job was restarted is dead"


def test_lease_with_stalled_heartbeat_is_taken_over(
    folder: RunFolder, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    living = RunFolder.of(replace(config, seed=1), tmp_path)
    living.register(config)
    both_leases = [leases.acquire(f.path) for f in (folder, living)]
    assert both_leases[0]
    assert both_leases[1]
    both_leases[0]._over.set()  # stop the heartbeat, as if its machine had died
    both_leases[0]._thread.join()
    record = leases.latest(folder.path)
    assert record
    record["process"]["machine"] = "another"
    files.write_json(folder.path / "attempts" / "1.json", record)
    assert leases.acquire(folder.path) is None
    stalled = leases.wait_for_stalled([folder.path, living.path], lambda: False)
    assert stalled == {folder.path: record}
    assert leases.wait_for_stalled([folder.path], lambda: True) == {}
    new_lease = leases.acquire(folder.path, known_dead=stalled[folder.path])
    assert new_lease
    assert new_lease.number == 2
    assert leases.acquire(folder.path, known_dead=stalled[folder.path]) is None
    new_lease.end("done")
    both_leases[1].end("done")


def test_time_while_file_system_stands_still_does_not_count(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server is down for longer than ten heartbeats: then the first can be late."""
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    record = {"attempt": 1, "heartbeat": 7, "process": {"machine": "another"}}
    beats = iter([(0.0, 7), (0.0, 7), (1.0, 7), (0.0, 8)])

    def latest(_: Path) -> dict[str, Any]:
        seconds, heartbeat = next(beats)
        time.sleep(seconds)
        return {**record, "heartbeat": heartbeat}

    monkeypatch.setattr(leases, "latest", latest)
    assert leases.wait_for_stalled([folder.path], lambda: False) == {}
    assert next(beats, None) is None


def test_heartbeat_advances_while_lease_is_held(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.01)
    lease = leases.acquire(folder.path)
    assert lease
    while not (leases.latest(folder.path) or {}).get("heartbeat"):
        pass
    lease.end("done")
    assert sorted(os.listdir(folder.path / "attempts")) == ["1.json"]


def _try_lease(
    path: Path, start: "multiprocessing.synchronize.Barrier", results: "multiprocessing.Queue"
) -> None:
    start.wait()
    lease = leases.acquire(path)
    results.put(lease is not None)
    start.wait()  # hold the lease until all processes have tried


def test_only_one_of_many_processes_gets_lease(tmp_path: Path, config: RunConfig) -> None:
    fork = multiprocessing.get_context("spawn")
    for round_ in range(3):
        folder = RunFolder.of(replace(config, seed=round_), tmp_path)
        folder.register(config)
        start, results = fork.Barrier(4), fork.Queue()
        processes = [
            fork.Process(target=_try_lease, args=(folder.path, start, results)) for _ in range(4)
        ]
        for process in processes:
            process.start()
        assert sum(results.get(timeout=60) for _ in processes) == 1
        for process in processes:
            process.join()


def test_all_runs_lists_run_folders_and_rejects_missing_folder(
    folder: RunFolder, tmp_path: Path
) -> None:
    shutil.copytree(folder.path, tmp_path / ".trash" / folder.path.name)
    shutil.copytree(folder.path, folder.path.with_name(f".{folder.path.name}"))
    assert [run.path for run in all_runs(tmp_path)] == [folder.path]
    assert [run.snapshot.path for run in run_states.of_folders(tmp_path)] == [folder.path]
    with pytest.raises(UserError, match="no such folder"):
        list(all_runs(tmp_path / "none"))
    assert files.read_json(folder.path / "config.json")
