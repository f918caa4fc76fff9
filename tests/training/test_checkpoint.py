"""A resume checkpoint is trusted only when it is whole."""

import errno
import random
import threading
from pathlib import Path

import pytest
import torch

from src.common import files
from src.common.paths import RESUME, RESUME_BEFORE
from src.training import checkpoint

CPU = torch.device("cpu")
STATE: checkpoint.State = {
    "weights": torch.arange(300.0),
    "rows": [{"loss": 0.5}],
    "reason": None,
    "seed": 2**62,
}


def same(state: checkpoint.State | None) -> bool:
    return state is not None and torch.equal(state["weights"], STATE["weights"])


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, CPU) is None
    checkpoint.save(tmp_path, STATE)
    loaded = checkpoint.load(tmp_path, CPU)
    assert same(loaded)
    assert loaded
    assert (loaded["rows"], loaded["reason"], loaded["seed"]) == ([{"loss": 0.5}], None, 2**62)
    checkpoint.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_cut_and_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, STATE)
    path = tmp_path / RESUME
    whole = path.read_bytes()
    chosen = random.Random(0)
    for _ in range(100):
        path.write_bytes(whole[: chosen.randrange(len(whole))])
        assert checkpoint.read(path, CPU) is None
        place, bit = chosen.randrange(len(whole)), 1 << chosen.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        assert checkpoint.read(path, CPU) is None
    path.write_bytes(whole)
    assert same(checkpoint.read(path, CPU))


def test_the_one_before_is_used_where_the_last_is_damaged(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, STATE)
    checkpoint.save(tmp_path, {"weights": torch.zeros(3)})
    (tmp_path / RESUME).write_bytes(b"damaged")
    assert same(checkpoint.load(tmp_path, CPU))
    (tmp_path / RESUME).unlink()  # as if killed between the two renames
    assert same(checkpoint.load(tmp_path, CPU))
    (tmp_path / RESUME_BEFORE).unlink()
    assert checkpoint.load(tmp_path, CPU) is None


def test_a_full_disk_is_an_os_error_whatever_torch_makes_of_it() -> None:
    """torch.save may raise RuntimeError; the reason is in what the file said."""
    with open("/dev/full", "wb", buffering=0) as full:
        watched = files._Watched(full)
        with pytest.raises((RuntimeError, OSError)):
            torch.save(STATE, watched)
    assert watched.error
    assert watched.error.errno == errno.ENOSPC


def test_a_runtime_error_of_torch_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: files._Watched, data: bytes) -> int:
        self.error = OSError(errno.ENOSPC, "No space left on device")
        raise self.error

    monkeypatch.setattr(files._Watched, "write", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, STATE)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_write_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, STATE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, {"weights": torch.zeros(3)})
    assert [p.name for p in tmp_path.iterdir()] == [RESUME]
    assert same(checkpoint.load(tmp_path, CPU))


def test_a_writer_keeps_the_state_as_it_was_and_lets_training_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write, save = threading.Event(), checkpoint.save

    def slow(folder: Path, state: checkpoint.State) -> None:
        assert may_write.wait(60)
        assert threading.current_thread() is not threading.main_thread()
        save(folder, state)

    monkeypatch.setattr(checkpoint, "save", slow)
    state = {"weights": torch.zeros(5), "rows": [{"loss": 0.5}], "best": {"x": [1, torch.ones(2)]}}
    writer = checkpoint.CheckpointWriter(tmp_path)
    writer.start(state)
    state["weights"].fill_(7)  # type: ignore[attr-defined]
    state["best"]["x"][1].fill_(7)  # type: ignore[index]
    state["rows"].append({"loss": 0.1})  # type: ignore[attr-defined]
    assert writer.busy()
    assert not (tmp_path / RESUME).exists()
    may_write.set()
    writer.wait()
    assert not writer.busy()
    kept = checkpoint.load(tmp_path, CPU)
    assert kept
    assert (kept["weights"].sum(), kept["rows"]) == (0, [{"loss": 0.5}])
    assert kept["best"]["x"][1].tolist() == [1, 1]


def test_a_writer_tells_that_it_could_not(tmp_path: Path) -> None:
    writer = checkpoint.CheckpointWriter(tmp_path / "gone")
    writer.start(STATE)
    with pytest.raises(FileNotFoundError):
        writer.wait()
    assert not writer.busy()
