"""Files are whole or not there, also where NFS gives misleading answers."""

import builtins
import errno
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from src.common import files, temporary_files
from src.common.file_retries import FileRetries
from src.runs import leases
from src.runs.run_folder import RunFolder
from src.runs.snapshot import Snapshot
from src.sweep import sets


def test_failed_write_keeps_old_file_and_removes_temporary(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})

    def broken(file: IO[bytes]) -> None:
        file.write(b"half")
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError):
        files.write(path, broken)
    assert files.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_write_once_does_not_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert files.write_once(path, b"first")
    assert not files.write_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a"]


def test_written_file_has_umask_permissions(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def test_damaged_json_reads_as_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert files.read_json(path) is None
    for text in ("", "{", "[1]", "\xff"):
        path.write_bytes(text.encode("latin-1"))
        assert files.read_json(path) is None


def test_file_whose_creation_an_nfs_server_has_begun_is_not_abandoned(tmp_path: Path) -> None:
    """Its mtime is a number of the client's until the client has set the times."""
    created = tmp_path / ".writing-00000000-1-new"
    created.touch()
    os.utime(created, (0, 0))
    temporary_files.remove_abandoned_files(tmp_path)
    assert created.exists()


@pytest.mark.usefixtures("age_by_mtime")
def test_remove_abandoned_files_deletes_only_files_of_dead_writers(tmp_path: Path) -> None:
    """Temporary files of live writers stay, and those of other machines unless they are old."""
    with temporary_files.temporary_file(tmp_path / "ours") as file:
        live = Path(file.name)
        dead = live.with_name(live.name.replace(f"-{os.getpid()}-", "-4194305-"))
        other_machine, old = (
            tmp_path / ".writing-00000000-1-new",
            tmp_path / ".writing-00000000-1-old",
        )
        for path in (dead, other_machine, old, tmp_path / "other"):
            path.touch()
        os.utime(old, (0, 0))
        temporary_files.remove_abandoned_files(tmp_path, tmp_path / "missing")
        assert set(tmp_path.iterdir()) == {live, other_machine, tmp_path / "other"}


def _reply_lost(call: Callable[..., None], repeated: type[OSError]) -> Callable[..., None]:
    """A system call that succeeds, and then says what a repeated request to a server gets."""

    def done_twice(*paths: object) -> None:
        call(*paths)
        raise repeated("as after the restart of an NFS server")

    return done_twice


def test_link_with_lost_reply_counts_as_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """link(2) says EEXIST and has made the file: it is ours, as open(2) describes it for NFS."""
    monkeypatch.setattr(os, "link", _reply_lost(os.link, FileExistsError))
    path = tmp_path / "a"
    assert files.write_once(path, b"first")
    monkeypatch.undo()
    assert not files.write_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a"]


def test_link_of_other_file_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the other file has the same content, or is gone when we look."""
    path = tmp_path / "a"
    path.write_bytes(b"same")
    assert not files.write_once(path, b"same")

    def removed_since(*_: object) -> None:
        path.unlink()
        raise FileExistsError

    monkeypatch.setattr(os, "link", removed_since)
    assert not files.write_once(path, b"same")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("before", [None, "before"])
def test_rename_with_lost_reply_counts_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """rename(2) says ENOENT, and the file has its new name."""
    path, kept = tmp_path / "a", before and tmp_path / before
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", _reply_lost(os.replace, FileNotFoundError))
    files.write(path, lambda file: file.write(b"new"), keep_before=kept or None)
    assert path.read_bytes() == b"new"
    assert not kept or kept.read_bytes() == b"old"
    assert set(tmp_path.iterdir()) == {path, kept or path}


def test_failed_rename_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has removed the temporary file."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    replace = os.replace

    def without_its_source(source: str, target: Path) -> None:
        os.unlink(source)
        replace(source, target)

    monkeypatch.setattr(os, "replace", without_its_source)
    with pytest.raises(FileNotFoundError):
        files.write_text(path, "new")
    assert path.read_bytes() == b"old"


def test_only_closed_files_are_unlinked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An NFS client would rename it to .nfs..., and leave that if its machine dies."""
    unlink = Path.unlink

    def closed(path: Path, missing_ok: bool = False) -> None:
        opened = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
        assert str(path) not in opened
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", closed)
    assert files.write_once(tmp_path / "a", b"a")
    assert not files.write_once(tmp_path / "a", b"b")
    assert os.listdir(tmp_path) == ["a"]


class _Stale(io.FileIO):
    """A file that another NFS client has replaced since it was opened."""

    def read(self, size: int | None = -1) -> bytes:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    readall = readinto = read  # type: ignore[assignment]


class _Replaced:
    """open, of which the first calls give stale handles."""

    def __init__(self, stale: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self._open = stale, builtins.open
        monkeypatch.setattr(files, "retry_read", FileRetries(*(0.0,) * 6))
        for module in (builtins, io):
            monkeypatch.setattr(module, "open", self)

    def __call__(self, path: Any, *words: Any, **named: Any) -> Any:
        if not self.left:
            return self._open(path, *words, **named)
        self.left -= 1
        return _Stale(os.fspath(path))


READERS: dict[str, Callable[[Path], object]] = {
    "record": lambda run: files.read_json(run / "config.json"),
    "heartbeat": leases.latest,
    "history": lambda run: RunFolder(run).history(),
    "seconds of epochs": lambda run: Snapshot(run).epoch_seconds,
    "state": lambda run: Snapshot(run).state,
    "set": lambda run: sets.read(run / "set.txt"),
}


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    (tmp_path / "attempts").mkdir()
    files.write_json(tmp_path / "config.json", {"a": 1})
    files.write_json(tmp_path / "result.json", {"test_accuracy_best_val_acc": 0.5})
    files.write_json(tmp_path / "attempts" / "1.json", {"attempt": 1, "heartbeat": 3})
    files.write_text(tmp_path / "history.jsonl", '{"epoch": 1, "seconds": 2.5}\n')
    files.write_text(tmp_path / "set.txt", "1 50 cifar10net step True 0.001 0 0.9\n")
    return tmp_path


@pytest.mark.parametrize("name", READERS)
def test_file_replaced_while_read_is_opened_again(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """On NFS the handle is stale then (ESTALE): the file is opened again."""
    whole = READERS[name](run_folder)
    opened = _Replaced(3, monkeypatch)
    assert READERS[name](run_folder) == whole
    assert opened.left == 0


def test_a_handle_that_stays_stale_is_an_error(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bounded number of times: the export itself may be gone."""
    opened = _Replaced(1000, monkeypatch)
    with pytest.raises(OSError, match="Stale file handle"):
        files.read_json(run_folder / "config.json")
    assert 1000 - opened.left < 10


def test_folder_that_cannot_be_listed_for_a_moment_is_listed_again(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount with a time limit says EIO while its server restarts."""
    listdir, calls = os.listdir, []

    def failing(folder: Path) -> list[str]:
        calls.append(folder)
        if len(calls) < 4:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return listdir(folder)

    monkeypatch.setattr(files, "retry_read", FileRetries(*(0.0,) * 6))
    monkeypatch.setattr(os, "listdir", failing)
    assert files.names_in(run_folder / "attempts") == ["1.json"]
    assert len(calls) == 4


def test_after_waiting_in_vain_nothing_waits_until_something_succeeds(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of folders are read for a status."""
    opened = _Replaced(1000, monkeypatch)
    for expected in (7, 8):
        with pytest.raises(OSError, match="Stale file handle"):
            files.read_json(run_folder / "config.json")
        assert 1000 - opened.left == expected
    opened.left = 0
    assert files.read_json(run_folder / "config.json")
    opened.left = 3
    assert files.read_json(run_folder / "config.json")


def test_other_errors_are_raised_at_once(run_folder: Path) -> None:
    with pytest.raises(IsADirectoryError):
        files.read_json(run_folder)
