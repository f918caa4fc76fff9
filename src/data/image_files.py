"""Pictures of any size as arrays of one size: files decoded, arrays resized."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from src.common.errors import UserError, one_line
from src.data.dataset import ImageArray

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

_THREADS = 4
_AT_A_TIME = 1000  # pictures
_GREY_MODES = ("1", "L", "LA", "La")
_DEEP_MODES = ("I", "F")  # more than 8 bits a channel; also "I;16" and its kin


def is_grey(path: Path) -> bool:
    """Whether a picture file stores grey values instead of colours. Raises UserError."""
    return _read(path, lambda picture: picture.mode in _GREY_MODES)


def all_grey(paths: Sequence[Path]) -> bool:
    """Whether all picture files are grey. Raises UserError that names one that is no picture."""
    return all(_in_threads(is_grey, paths))


def read_files(paths: Sequence[Path], channels: int, size: int) -> Iterator[ImageArray]:
    """Each picture file as (size, size, channels) uint8, in order.

    Bilinear, with antialiasing where it gets smaller. Raises UserError that names a file that is
    no picture.
    """
    mode = "L" if channels == 1 else "RGB"
    return _in_threads(
        lambda path: _read(path, lambda picture: _resized(picture.convert(mode), size)), paths
    )


def resize(images: ImageArray, size: int) -> ImageArray:
    """Images (N, H, W, C) as (N, size, size, C), like `read_files`; those of this size as given."""
    from PIL import Image

    if images.shape[1:3] == (size, size):
        return images
    flat = images[..., 0] if images.shape[3] == 1 else images
    resized = _in_threads(
        lambda image: _resized(Image.fromarray(image), size), np.ascontiguousarray(flat)
    )
    result = np.empty((len(images), size, size, images.shape[3]), np.uint8)
    for place, image in zip(result, resized, strict=True):
        place[:] = image
    return result


def _resized(picture: "Image.Image", size: int) -> ImageArray:
    from PIL import Image

    small = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    return small[..., None] if small.ndim == 2 else small


def _read(path: Path, use: Callable[["Image.Image"], T]) -> T:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(_DEEP_MODES):
                raise ValueError(f"mode {picture.mode}; expected 8 bits a channel")
            return use(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not an image: {one_line(error)}") from None


def _in_threads(
    function: Callable[[Any], T], items: Sequence[Any] | npt.NDArray[Any]
) -> Iterator[T]:
    """What a function returns for each item, in order. Pillow releases the interpreter's lock."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(items), _AT_A_TIME):
            yield from pool.map(function, items[first : first + _AT_A_TIME])
