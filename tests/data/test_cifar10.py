"""Reading and downloading the official CIFAR-10 batches; rejecting invalid ones."""

import hashlib
import io
import os
import pickle
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src import data
from src.common.errors import UserError
from src.data import cifar10 as reader


def test_batches_are_read_from_folder_or_its_parent(batches: Path) -> None:
    from_folder, from_parent = data.load(str(batches)), data.load(str(batches.parent))
    assert np.array_equal(from_folder.train_images, from_parent.train_images)
    assert from_folder.train_images.shape == (50_000, 32, 32, 3)
    assert from_folder.test_images.shape == (10_000, 32, 32, 3)
    assert from_folder.last_batch == 10_000
    raw = pickle.loads((batches / "data_batch_2").read_bytes())  # noqa: S301  written by the fixture
    first = raw[b"data"][0].reshape(3, 32, 32)
    assert np.array_equal(from_folder.train_images[10_000], first.transpose(1, 2, 0))
    assert from_folder.train_labels[10_000] == raw[b"labels"][0]


def test_pickle_with_old_numpy_module_name_is_read(tmp_path: Path, batches: Path) -> None:
    """The official pickles refer to numpy.core.multiarray, newer ones to numpy._core.multiarray."""
    raw = (batches / "test_batch").read_bytes()
    old = raw.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != raw
    (tmp_path / "batch").write_bytes(old)
    images, _ = reader.read_batch(tmp_path / "batch")
    assert np.array_equal(images, reader.read_batch(batches / "test_batch")[0])


class MaliciousPickle:
    """Object whose unpickling creates a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_malicious_pickle_is_rejected_without_effect(tmp_path: Path) -> None:
    (tmp_path / "batch").write_bytes(
        pickle.dumps({b"data": MaliciousPickle(tmp_path / "made")}, protocol=3)
    )
    with pytest.raises(UserError, match="refused"):
        reader.read_batch(tmp_path / "batch")
    assert not (tmp_path / "made").exists()


class MaliciousDtype:
    """Object whose unpickling makes numpy treat bytes as pointers."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, ("u1", False, False), (3, "|", None, None, None, -1, -1, 63)


def test_malicious_dtype_does_not_change_numpy_dtypes(tmp_path: Path) -> None:
    raw = pickle.dumps({b"data": MaliciousDtype()}, protocol=3)
    (tmp_path / "batch").write_bytes(raw)
    with pytest.raises(UserError, match="no uint8 array"):
        reader.read_batch(tmp_path / "batch")
    assert np.dtype("u1").flags == 0


VALID = {"data": np.zeros((10_000, 3072), np.uint8), "labels": [0] * 10_000}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"data": np.zeros((9_999, 3072), np.uint8)}, r"shape \(9999, 3072\)"),
        ({"data": np.zeros((10_000, 3072), np.float32)}, "no uint8 array"),
        ({"data": "text"}, "no uint8 array"),
        ({"labels": [0] * 9_999}, "10000 labels"),
        ({"labels": [10] + [0] * 9_999}, "from 0 to 9"),
        ({"labels": [-1] + [0] * 9_999}, "from 0 to 9"),
        ({"labels": [0.5] + [0] * 9_999}, "from 0 to 9"),
    ],
)
def test_invalid_shape_dtype_or_labels_are_rejected(
    tmp_path: Path, change: dict, part: str
) -> None:
    batch = {name.encode(): value for name, value in (VALID | change).items()}
    (tmp_path / "batch").write_bytes(pickle.dumps(batch, protocol=3))
    with pytest.raises(UserError, match=part):
        reader.read_batch(tmp_path / "batch")


@pytest.mark.parametrize("pickle_bytes", [b"\x80\x03}r\xff\xff\xff\x7f.", b"}p2000000000\n."])
def test_pickle_with_huge_memo_index_is_rejected(tmp_path: Path, pickle_bytes: bytes) -> None:
    (tmp_path / "batch").write_bytes(pickle_bytes)
    with pytest.raises(UserError, match=r"memo entry 2[0-9]{9}, 1 is the next"):
        reader.read_batch(tmp_path / "batch")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.integers(0, 400)))
def test_damaged_batch_gives_one_line_error(tmp_path: Path, damage: bytes | int) -> None:
    small = pickle.dumps({b"data": np.zeros((2, 3), np.uint8), b"labels": [1, 2]}, protocol=3)
    raw = damage if isinstance(damage, bytes) else small[:damage] + b"\xff" + small[damage + 1 :]
    (tmp_path / "batch").write_bytes(raw)
    with pytest.raises(UserError) as caught:
        reader.read_batch(tmp_path / "batch")
    assert len(str(caught.value).splitlines()) == 1


def test_missing_batches_are_named_in_error(tmp_path: Path, batches: Path) -> None:
    shutil.copy(batches / "test_batch", tmp_path)
    with pytest.raises(UserError, match=r"no data_batch_1, .* in it"):
        data.load(str(tmp_path))


@pytest.fixture
def local_archive(batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve an archive of random images locally in place of the official one."""
    path = tmp_path / "archive" / "cifar-10-python.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz", compresslevel=0) as tar:
        tar.add(batches, "cifar-10-batches-py")

    class SilentHandler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SilentHandler, directory=path.parent)
    ) as server:
        monkeypatch.setattr(reader, "URL", f"http://127.0.0.1:{server.server_port}/{path.name}")
        monkeypatch.setattr(reader, "MD5", hashlib.md5(path.read_bytes()).hexdigest())
        Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def test_missing_folder_is_downloaded(local_archive: None, tmp_path: Path, batches: Path) -> None:
    folder = tmp_path / "new" / "cifar-10"
    assert data.load(str(folder)).train_labels.shape == (50_000,)
    assert sorted(os.listdir(folder.parent)) == ["cifar-10"]
    assert sorted(os.listdir(folder)) == ["cifar-10-batches-py"]


def test_wrong_checksum_leaves_no_files(
    local_archive: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MD5", "0" * 32)
    with pytest.raises(UserError, match="could not be downloaded"):
        data.load(str(tmp_path / "cifar-10"))
    assert os.listdir(tmp_path) == ["archive"]


def test_missing_network_gives_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "URL", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(UserError, match="could not be downloaded") as caught:
        data.load(str(tmp_path / "far" / "away" / "cifar-10"))
    assert len(str(caught.value).splitlines()) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.cifar10
def test_real_cifar10_has_known_class_counts_and_means(cifar10: str) -> None:
    real = data.load(cifar10)
    assert np.bincount(real.train_labels).tolist() == [5_000] * 10
    assert np.bincount(real.test_labels).tolist() == [1_000] * 10
    mean = real.train_images.reshape(-1, 3).mean(axis=0) / 255
    assert mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
    assert io.BytesIO(real.test_images[0].tobytes()).read(3) == bytes([158, 112, 49])
