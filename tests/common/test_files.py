"""Atomic file writes, JSON reading, removal of leftover temporary files."""

import os
import stat
from pathlib import Path
from typing import IO

import pytest

from src.common import files


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


def test_remove_leftovers_deletes_only_files_of_dead_writers(tmp_path: Path) -> None:
    """Temporary files of live writers stay, and those of other machines unless they are old."""
    with files._temporary(tmp_path / "ours") as file:
        live = Path(file.name)
        dead = live.with_name(live.name.replace(f"-{os.getpid()}-", "-4194305-"))
        other_machine, old = (
            tmp_path / ".writing-00000000-1-new",
            tmp_path / ".writing-00000000-1-old",
        )
        for path in (dead, other_machine, old, tmp_path / "other"):
            path.touch()
        os.utime(old, (0, 0))
        files.remove_leftovers(tmp_path, tmp_path / "missing")
        assert set(tmp_path.iterdir()) == {live, other_machine, tmp_path / "other"}
