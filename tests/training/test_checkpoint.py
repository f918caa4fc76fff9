"""Resume checkpoints: integrity checks, fallback to the previous one, background writing."""

import errno
import random
import threading
from pathlib import Path

import pytest
import torch

from src.common.paths import RESUME, RESUME_BEFORE
from src.common.temporary_files import ErrorKeepingFile
from src.training import checkpoint

CPU = torch.device("cpu")
STATE: checkpoint.CheckpointState = {
    "weights": torch.arange(300.0),
    "rows": [{"loss": 0.5}],
    "reason": None,
    "seed": 2**62,
}


def has_equal_weights(state: checkpoint.CheckpointState | None) -> bool:
    return state is not None and torch.equal(state["weights"], STATE["weights"])


def test_saved_state_is_loaded(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, CPU) is None
    checkpoint.save(tmp_path, STATE)
    loaded = checkpoint.load(tmp_path, CPU)
    assert has_equal_weights(loaded)
    assert loaded
    assert (loaded["rows"], loaded["reason"], loaded["seed"]) == ([{"loss": 0.5}], None, 2**62)
    checkpoint.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_truncation_and_bit_flips_are_detected(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, STATE)
    path = tmp_path / RESUME
    complete = path.read_bytes()
    rng = random.Random(0)
    for _ in range(100):
        path.write_bytes(complete[: rng.randrange(len(complete))])
        assert checkpoint.read(path, CPU) is None
        place, bit = rng.randrange(len(complete)), 1 << rng.randrange(8)
        path.write_bytes(complete[:place] + bytes([complete[place] ^ bit]) + complete[place + 1 :])
        assert checkpoint.read(path, CPU) is None
    path.write_bytes(complete)
    assert has_equal_weights(checkpoint.read(path, CPU))


def test_previous_checkpoint_is_used_if_newest_is_damaged(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, STATE)
    checkpoint.save(tmp_path, {"weights": torch.zeros(3)})
    (tmp_path / RESUME).write_bytes(b"damaged")
    assert has_equal_weights(checkpoint.load(tmp_path, CPU))
    (tmp_path / RESUME).unlink()  # as if killed between the two renames
    assert has_equal_weights(checkpoint.load(tmp_path, CPU))
    (tmp_path / RESUME_BEFORE).unlink()
    assert checkpoint.load(tmp_path, CPU) is None


def test_watched_file_records_disk_full_error() -> None:
    """torch.save may raise RuntimeError; the wrapped file records the OSError behind it."""
    with open("/dev/full", "wb", buffering=0) as full:
        watched = ErrorKeepingFile(full)
        with pytest.raises((RuntimeError, OSError)):
            torch.save(STATE, watched)
    assert watched.error
    assert watched.error.errno == errno.ENOSPC


def test_save_raises_os_error_behind_torch_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: ErrorKeepingFile, data: bytes) -> int:
        self.error = OSError(errno.ENOSPC, "No space left on device")
        raise self.error

    monkeypatch.setattr(ErrorKeepingFile, "write", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, STATE)
    assert list(tmp_path.iterdir()) == []


def test_failed_save_keeps_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, STATE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, {"weights": torch.zeros(3)})
    assert [p.name for p in tmp_path.iterdir()] == [RESUME]
    assert has_equal_weights(checkpoint.load(tmp_path, CPU))


def test_checkpoint_writer_saves_snapshot_in_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write, save = threading.Event(), checkpoint.save

    def slow(folder: Path, state: checkpoint.CheckpointState) -> None:
        assert may_write.wait(60)
        assert threading.current_thread() is not threading.main_thread()
        save(folder, state)

    monkeypatch.setattr(checkpoint, "save", slow)
    state = {"weights": torch.zeros(5), "rows": [{"loss": 0.5}], "best": {"x": [1, torch.ones(2)]}}
    writer = checkpoint.CheckpointWriter(tmp_path)
    seen: list[bool] = []
    writer.start(state, lambda: seen.append((tmp_path / RESUME).exists()))
    state["weights"].fill_(7)  # type: ignore[attr-defined]
    state["best"]["x"][1].fill_(7)  # type: ignore[index]
    state["rows"].append({"loss": 0.1})  # type: ignore[attr-defined]
    assert writer.busy()
    assert not (tmp_path / RESUME).exists()
    assert seen == []
    may_write.set()
    writer.wait()
    assert seen == [True]
    assert not writer.busy()
    loaded = checkpoint.load(tmp_path, CPU)
    assert loaded
    assert (loaded["weights"].sum(), loaded["rows"]) == (0, [{"loss": 0.5}])
    assert loaded["best"]["x"][1].tolist() == [1, 1]


def test_checkpoint_writer_raises_write_error_on_wait(tmp_path: Path) -> None:
    writer = checkpoint.CheckpointWriter(tmp_path / "gone")
    seen: list[bool] = []
    writer.start(STATE, lambda: seen.append(True))
    with pytest.raises(FileNotFoundError):
        writer.wait()
    assert not writer.busy()
    assert not seen


def test_tensor_in_several_places_is_written_once(tmp_path: Path) -> None:
    """The weights of an epoch that was the best in accuracy and in loss, 370 MB for a ViT."""
    weights = torch.randn(100_000)
    writer = checkpoint.CheckpointWriter(tmp_path)
    writer.start({"best": {"best_val_acc": [3, weights], "best_val_loss": [3, weights]}})
    writer.wait()
    assert (tmp_path / RESUME).stat().st_size < 1.1 * weights.nbytes
    loaded = checkpoint.load(tmp_path, CPU)
    assert loaded
    for kind in ("best_val_acc", "best_val_loss"):
        assert torch.equal(loaded["best"][kind][1], weights)
