"""Test images from batches, from the stand-in and from folders of pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.common.errors import UserError
from src.data import cifar10, synthetic
from src.data.dataset import CLASSES
from src.data.image_folder import load_test


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two flat pictures of each class, of sizes and kinds of their own."""
    for label, name in enumerate(CLASSES):
        (tmp_path / name).mkdir()
        grey = 20 * label
        Image.new("RGB", (32, 32), (grey, 0, 255)).save(tmp_path / name / "a.png")
        Image.new("L", (50 + label, 20), grey).save(tmp_path / name / "b.jpg", quality=100)
    (tmp_path / ".cache").mkdir()
    return tmp_path


def test_pictures_are_labelled_by_their_folders(folder: Path) -> None:
    exact = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(exact).save(folder / "ship" / "c.png")
    found = load_test(str(folder))
    assert found.labels.tolist() == sorted([*range(10)] * 2 + [8])
    assert found.pixels.shape == (21, 32, 32, 4)
    assert found.images[2].tolist() == np.full((32, 32, 3), (20, 0, 255)).tolist()
    assert abs(found.images[3].astype(int) - 20).max() <= 1
    assert np.array_equal(found.images[18], exact), "32x32 is taken as it is"


def test_batches_and_stand_in(batches: Path) -> None:
    images, labels = cifar10.read_batch(batches / "test_batch")
    for path in (batches, batches.parent):
        found = load_test(str(path))
        assert np.array_equal(found.images, images)
        assert np.array_equal(found.labels, labels)
    assert np.array_equal(load_test("synthetic").labels, synthetic.generate().test_labels)


def spoil(folder: Path, how: str) -> None:
    if how == "missing":
        (folder / "cat").rename(folder.parent / "elsewhere")
    elif how == "unknown":
        (folder / "zebra").mkdir()
    elif how == "no images":
        for path in (folder / "deer").iterdir():
            path.unlink()
    elif how == "broken":
        (folder / "dog" / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n????")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "subfolder for each class: missing cat"),
        ("unknown", "subfolder for each class: unknown zebra"),
        ("no images", "deer"),
        ("broken", "c.png: not an image"),
    ],
)
def test_other_folders_are_refused(folder: Path, how: str, said: str) -> None:
    spoil(folder, how)
    with pytest.raises(UserError, match=said) as caught:
        load_test(str(folder))
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_not_filled_with_a_download(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_test(str(tmp_path / "nowhere"))
    assert not list(tmp_path.iterdir())
