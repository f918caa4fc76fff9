"""Cache of decoded images: verified by content, shared by processes, optional."""

import errno
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
import pytest
import torch

from src import data
from src.common import files
from src.common.paths import ROOT, TEMPORARY_PREFIX, cache_dir, cache_file
from src.data import cache
from src.data import cifar10 as reader
from src.data.dataset import Dataset
from src.data.device_dataset import DeviceDataset

SMALL = np.dtype(
    [
        ("train_pixels", "u1", (20, 32, 32, 4)),
        ("train_labels", "<i8", (20,)),
        ("digest", "u1", (32,)),
    ]
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_dir()


@pytest.fixture
def record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> cache.RecordArray:
    """Return a record of a small layout, written in pieces with a partial last one."""
    monkeypatch.setattr(cache, "_PIECE", 9_999)
    new_record = cache.empty(SMALL)
    new_record["train_pixels"] = np.random.default_rng(0).integers(
        0, 256, SMALL["train_pixels"].shape
    )
    new_record["train_labels"] = np.arange(20) % 10
    return new_record


def equal(first: Dataset, second: Dataset) -> bool:
    names = ("train_pixels", "train_labels", "test_pixels", "test_labels")
    return all(np.array_equal(getattr(first, n), getattr(second, n)) for n in names)


def test_second_load_maps_cache_without_decoding(
    batches: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = data.load(str(batches))
    [cached_file] = folder.iterdir()
    decoded = reader._decode(
        [batches / n for n in (*reader.TRAIN_BATCHES, reader.TEST_BATCH)],
        cache.layout(50_000, 10_000),
        32,
    )
    assert np.array_equal(first.train_pixels, decoded["train_pixels"])
    assert np.array_equal(first.test_labels, decoded["test_labels"])

    def refuse(path: Path) -> NoReturn:
        raise AssertionError(path)

    monkeypatch.setattr(reader, "read_batch", refuse)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        second = data.load(str(batches))
        resident = DeviceDataset.put(second, torch.device("cpu"))
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1
    assert equal(first, second)
    assert resident.train.pixels.data_ptr() == second.train_pixels.ctypes.data, (
        "the file must be memory-mapped, not copied"
    )
    assert str(cached_file) in Path("/proc/self/maps").read_text()
    assert (
        np.load(cached_file, mmap_mode="r")["test_labels"].tolist() == second.test_labels.tolist()
    )


def test_changed_byte_of_batch_gives_new_cache_entry(
    batches: Path, folder: Path, tmp_path: Path
) -> None:
    before = data.load(str(batches))
    changed = tmp_path / "changed"
    shutil.copytree(batches, changed, copy_function=os.symlink)
    path = changed / "data_batch_3"
    raw = bytearray(path.read_bytes())
    path.unlink()
    raw[15_000_000] ^= 1
    path.write_bytes(raw)
    times = (batches / path.name).stat()
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = data.load(str(changed))
    assert (before.train_pixels != after.train_pixels).sum() == 1
    assert len(list(folder.iterdir())) == 2


def test_concurrent_processes_load_same_data_and_one_file(batches: Path, folder: Path) -> None:
    code = (
        "import sys, src.data as d; s = d.load(sys.argv[1]);"
        "print(s.train_pixels.sum(), s.test_labels.sum())"
    )
    words = [sys.executable, "-c", code, str(batches)]
    processes = [
        subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = {process.communicate(timeout=120)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    expected = data.load(str(batches))
    assert outputs == {f"{expected.train_pixels.sum()} {expected.test_labels.sum()}\n"}
    assert len(list(folder.iterdir())) == 1


def test_concurrent_writers_leave_one_file(folder: Path, record: cache.RecordArray) -> None:
    def write_and_read(_: int) -> cache.RecordArray | None:
        cache.write("key", record.copy())
        return cache.read("key", SMALL)

    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(write_and_read, range(40)))
    assert all(found is not None and found == records[0] for found in records)
    assert os.listdir(folder) == [cache_file(folder, "key").name]
    before = cache_file(folder, "key").stat().st_ino
    cache.write("key", record)
    assert cache_file(folder, "key").stat().st_ino == before, (
        "the file may be mapped by other processes, so it is not replaced"
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:60],
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: raw[: len(raw) // 2] + bytes(len(raw) - len(raw) // 2),
        lambda raw: bytes([raw[0] ^ 1]) + raw[1:],
        lambda raw: raw[:90] + b"?" + raw[91:],
        lambda raw: raw[:10_000] + bytes([raw[10_000] ^ 1]) + raw[10_001:],
        lambda raw: raw[:-60] + bytes([raw[-60] ^ 1]) + raw[-59:],
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
    ],
    ids=["empty", "header", "short", "long", "zeros", "magic", "dtype", "pixel", "label", "digest"],
)
def test_damaged_cache_file_is_deleted_and_rewritten(
    folder: Path, record: cache.RecordArray, damage: object
) -> None:
    assert callable(damage)
    cache.write("key", record)
    path = cache_file(folder, "key")
    path.write_bytes(damage(path.read_bytes()))
    assert cache.read("key", SMALL) is None
    assert not path.exists()
    cache.write("key", record)
    assert cache.read("key", SMALL) == record


def test_unwritable_cache_folder_falls_back_to_decoding(
    batches: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = data.load(str(batches))
    folder.parent.rename(folder.parent.with_name("before"))
    folder.parent.write_text("a file where the folder should be")
    assert equal(data.load(str(batches)), expected)


def test_full_disk_leaves_no_cache_file(
    folder: Path, record: cache.RecordArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: IO[bytes]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync_file", full)
    cache.write("key", record)
    assert os.listdir(folder) == []
    assert cache.read("key", SMALL) is None


def test_changing_loaded_record_does_not_change_cache(
    folder: Path, record: cache.RecordArray
) -> None:
    cache.write("key", record)
    copy = cache.read("key", SMALL)
    assert copy is not None
    copy["train_labels"] = 3
    assert cache.read("key", SMALL) == record


@pytest.mark.usefixtures("age_by_mtime")
def test_only_most_recently_used_files_are_kept(folder: Path, record: cache.RecordArray) -> None:
    for age, key in enumerate("gfedcba"):
        cache.write(key, record)
        os.utime(cache_file(folder, key), (1e9 + age, 1e9 + age))
    assert cache.read("g", SMALL) is None
    assert cache.read("f", SMALL) is not None  # the oldest; reading it makes it the newest
    for name, seconds in (("killed", 0), ("writing", time.time())):
        (folder / f"{TEMPORARY_PREFIX}{name}").touch()
        os.utime(folder / f"{TEMPORARY_PREFIX}{name}", (seconds, seconds))
    (folder / "not ours").touch()
    cache.write("h", record)
    expected_files = [cache_file(folder, key).name for key in "abcdfh"]
    assert sorted(os.listdir(folder)) == sorted(
        [*expected_files, "not ours", f"{TEMPORARY_PREFIX}writing"]
    )


def test_cache_dir_follows_xdg_cache_home_and_home(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir().is_relative_to(os.environ["XDG_CACHE_HOME"])
    monkeypatch.setenv("HOME", "/home/me")
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert cache_dir() == Path("/home/me/.cache/cifar10-sweep")
    monkeypatch.setenv("HOME", "nowhere")
    with pytest.raises(OSError, match="no home folder"):
        cache_dir()
    assert cache.read("key", SMALL) is None
