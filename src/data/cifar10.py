"""The official CIFAR-10 python batches: read, verified, downloaded.

https://www.cs.toronto.edu/~kriz/cifar.html
"""

import pickle
import pickletools
import struct
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from src.common.errors import UserError, one_line
from src.common.paths import CIFAR10_FOLDER, TEST_BATCH, TRAIN_BATCHES
from src.data import cache, image_files
from src.data.dataset import Dataset, ImageArray, LabelArray, pack
from src.data.download import download
from src.data.spec import CIFAR10, CLASSES

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
MD5 = "c58f30108f718f92721af3b95e74349a"
BATCH_IMAGES = 10_000


def load(path: str, *, size: int = CIFAR10.size, spec_name: str = CIFAR10.name) -> Dataset:
    """Read the batches in `path` or in `path`/cifar-10-batches-py; download where it is missing.

    Images are resized to (size, size). Raises UserError if files are missing or damaged.
    """
    if not Path(path).expanduser().exists():
        _download(Path(path).expanduser())
    folder = folder_of(path) or Path(path).expanduser()
    names = (*TRAIN_BATCHES, TEST_BATCH)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"--base_dataset_path {path!r}: no {', '.join(missing)} in it; expected a folder with "
            f"the CIFAR-10 python batches, or 'synthetic'; --dataset names other data"
        )
    paths = [folder / name for name in names]
    dtype = cache.layout(len(TRAIN_BATCHES) * BATCH_IMAGES, BATCH_IMAGES, size=size)
    record = cache.of_files(paths, [dtype], lambda: _decode(paths, dtype, size))
    return Dataset.of_record(record, replace(CIFAR10, name=spec_name, size=size), BATCH_IMAGES)


def folder_of(path: str) -> Path | None:
    """The folder with batches: `path` or `path`/cifar-10-batches-py. None if it is neither."""
    folder = Path(path).expanduser()
    for place in (folder / CIFAR10_FOLDER, folder):
        if any((place / name).is_file() for name in (*TRAIN_BATCHES, TEST_BATCH)):
            return place
    return None


def _decode(paths: Sequence[Path], dtype: "np.dtype[np.void]", size: int) -> cache.RecordArray:
    """All images and labels of the training batches and the test batch."""
    record = cache.empty(dtype)
    pixels = (*_by_batch(record["train_pixels"]), *_by_batch(record["test_pixels"]))
    labels = (*_by_batch(record["train_labels"]), *_by_batch(record["test_labels"]))
    for path, its_pixels, its_labels in zip(paths, pixels, labels, strict=True):
        images, its_labels[:] = read_batch(path)
        pack(image_files.resize(images, size), its_pixels)
    return record


def _by_batch(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.reshape(-1, BATCH_IMAGES, *array.shape[1:])


def read_batch(path: Path) -> tuple[ImageArray, LabelArray]:
    """Images (10000, 32, 32, 3) and labels (10000,) of one batch file.

    Raises UserError if it is not one.
    """
    try:
        with path.open("rb") as file:
            _check_memo(file)
            batch = _NumpyUnpickler(file, encoding="bytes").load()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except _UNPICKLING_ERRORS as error:
        raise UserError(f"{path}: not a CIFAR-10 batch: {one_line(error)}") from None
    array, labels = (
        (batch.get(b"data"), batch.get(b"labels")) if isinstance(batch, dict) else (None, None)
    )
    data = array.values if isinstance(array, _Array) else None
    if data is None:
        raise UserError(f"{path}: not a CIFAR-10 batch: no uint8 array under 'data'")
    if data.shape != (BATCH_IMAGES, 3 * 32 * 32):
        raise UserError(f"{path}: images of shape {data.shape}, expected ({BATCH_IMAGES}, 3072)")
    if not isinstance(labels, list) or len(labels) != BATCH_IMAGES:
        raise UserError(f"{path}: expected {BATCH_IMAGES} labels, one for each image")
    if not all(type(label) is int and 0 <= label < len(CLASSES) for label in labels):
        raise UserError(f"{path}: a label is not a whole number from 0 to {len(CLASSES) - 1}")
    images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # a view (N, 32, 32, 3)
    return images, np.array(labels, dtype=np.int64)


def _download(folder: Path) -> None:
    """Download the official archive, check its MD5 and unpack it as `folder`, all or nothing."""
    from torchvision.datasets.utils import download_and_extract_archive

    def fetch(scratch: str) -> None:
        download_and_extract_archive(URL, scratch, md5=MD5, remove_finished=True)

    download(folder, CIFAR10_FOLDER, fetch, name="CIFAR-10", expected="the python batches")


def _check_memo(file: IO[bytes]) -> None:
    """Refuse a pickle that numbers its memo with gaps: a large number alone would take gigabytes.

    Raises UnpicklingError; what is no pickle at all, ValueError. The file is then at its beginning.
    """
    entries = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in the strings of protocol 0
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
                entries += 1
                if int(argument or 0) > entries:  # picklers begin with 0 or 1
                    raise pickle.UnpicklingError(f"memo entry {argument}, {entries} is the next")
    file.seek(0)


class _Type:
    """Stands for numpy's dtype, whose own state a file could set to crash or to seize us."""

    def __init__(self, name: bytes | str, align: object = None, copy: object = None) -> None:
        self.is_byte = name in ("u1", b"u1")

    def __setstate__(self, state: object) -> None:
        """Byte order, fields and flags: bytes have none."""


class _Array:
    """Stands for numpy's array, and for the function that makes one, until its state is set."""

    def __init__(self, kind: object, shape: object, typecode: object) -> None:
        self.values: ImageArray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, kind, columns_first, raw = state
        if kind.is_byte and not columns_first:
            self.values = np.frombuffer(raw, np.uint8).reshape(shape)


class _NumpyUnpickler(pickle.Unpickler):
    """Admits numpy arrays and nothing else, and lets numpy set no state from the file."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _Array
        if module == "numpy" and name in ("ndarray", "dtype"):
            return {"ndarray": _Array, "dtype": _Type}[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")


# what unpickling damaged or hostile bytes has been seen to raise
_UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    struct.error,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    SystemError,
)
