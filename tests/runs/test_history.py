"""history.jsonl is written beside training, and before all that relies on it."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from src.common.errors import LeaseLost
from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.runs import leases
from src.runs.history import HistoryFile
from src.runs.run_folder import RunFolder
from src.training import checkpoint
from src.training.trainer import Trainer, TrainerContext
from tests.conftest import wait_until

ROWS = [{"epoch": number} for number in range(1, 6)]


@pytest.fixture
def folder(config: RunConfig, tmp_path: Path) -> RunFolder:
    made = RunFolder.of(config, tmp_path)
    made.register(config)
    return made


@pytest.fixture
def lease(folder: RunFolder) -> Iterator[leases.Lease]:
    taken = leases.acquire(folder.path)
    assert taken
    yield taken
    taken.end("stopped")


class SlowFolder(RunFolder):
    """A run folder whose history is written when it is told to, with the numbers of rows."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.started, self.may_write = threading.Event(), threading.Event()
        self.written: list[int] = []

    def write_history(self, rows: Sequence[dict[str, Any]], before_rename: Any = None) -> None:
        self.started.set()
        assert self.may_write.wait(60)
        self.written.append(len(rows))
        super().write_history(rows, before_rename)


def test_training_does_not_wait_and_only_newest_state_is_written(
    folder: RunFolder, lease: leases.Lease
) -> None:
    slow = SlowFolder(folder.path)
    history = HistoryFile(slow, lease)
    for count in range(1, 6):
        history.epoch(ROWS[:count])
        assert slow.started.wait(60)
    assert folder.history() == []
    slow.may_write.set()
    history.flush()
    assert slow.written == [1, 5]
    assert folder.history() == ROWS
    history.epoch(ROWS[:2])
    history.flush()
    assert slow.written == [1, 5, 2]


def test_job_has_progressed_once_a_trained_step_is_on_disk(
    config: RunConfig, small_data: DeviceDataset, folder: RunFolder, lease: leases.Lease
) -> None:
    """A job whose checkpoints all fail gets nowhere, and must not requeue itself for ever."""
    context = TrainerContext(folder.path, HistoryFile(folder, lease))
    trainer = Trainer(config, small_data, context).start()
    trainer.save()
    assert not lease.progressed, "no step was trained"
    trainer.advance()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", fail)
        with pytest.raises(OSError, match="disk"):
            trainer.save()
    assert not lease.progressed, "the checkpoint was not written"
    trainer.save()
    assert lease.progressed
    trainer.stop()


def fail(*arguments: object) -> None:
    raise OSError("disk")


def test_checkpoint_waits_for_history(folder: RunFolder, lease: leases.Lease) -> None:
    slow = SlowFolder(folder.path)
    history = HistoryFile(slow, lease)
    history.epoch(ROWS)
    saving = threading.Thread(target=history.before_save)
    saving.start()
    saving.join(0.2)
    assert saving.is_alive()
    slow.may_write.set()
    saving.join(60)
    assert folder.history() == ROWS


def test_lost_lease_stops_the_run_at_the_next_epoch(folder: RunFolder, lease: leases.Lease) -> None:
    history = HistoryFile(folder, lease)
    (folder.path / "attempts" / "2.json").write_text('{"attempt": 2}')
    history.epoch(ROWS[:1])
    wait_until(lambda: history._writing is None or history._writing.done())
    with pytest.raises(LeaseLost):
        history.epoch(ROWS[:2])
    with pytest.raises(LeaseLost):
        history.before_save()
    assert folder.history() == []


def test_failed_write_is_raised_once_training_looks(
    folder: RunFolder, lease: leases.Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(RunFolder, "write_history", full)
    history = HistoryFile(folder, lease)
    history.epoch(ROWS)
    with pytest.raises(OSError, match="full"):
        history.flush()
