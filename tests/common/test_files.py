"""Files are whole or not there."""

import os
import stat
from pathlib import Path
from typing import IO

import pytest

from src.common import files


def test_a_write_that_breaks_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})

    def broken(file: IO[bytes]) -> None:
        file.write(b"half")
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError):
        files.write(path, broken)
    assert files.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_file_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert files.write_once(path, b"first")
    assert not files.write_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a"]


def test_permissions_are_those_of_the_umask(tmp_path: Path) -> None:
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


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Of a writer that lives nothing is touched, and of another machine's only what is old."""
    with files._temporary(tmp_path / "ours") as file:
        living = Path(file.name)
        gone = living.with_name(living.name.replace(f"-{os.getpid()}-", "-4194305-"))
        away, old = tmp_path / ".writing-00000000-1-new", tmp_path / ".writing-00000000-1-old"
        for path in (gone, away, old, tmp_path / "other"):
            path.touch()
        os.utime(old, (0, 0))
        files.remove_leftovers(tmp_path, tmp_path / "missing")
        assert set(tmp_path.iterdir()) == {living, away, tmp_path / "other"}
