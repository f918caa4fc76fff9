"""Test images from CIFAR-10 batches, the synthetic data set, and image folders."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src import data
from src.common.errors import UserError
from src.data import cifar10, synthetic
from src.data.evaluation_images import load_test
from src.data.spec import CLASSES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create two single-colour images per class, of different sizes, modes and file formats."""
    for label, name in enumerate(CLASSES):
        (tmp_path / name).mkdir()
        grey = 20 * label
        Image.new("RGB", (32, 32), (grey, 0, 255)).save(tmp_path / name / "a.png")
        Image.new("L", (50 + label, 20), grey).save(tmp_path / name / "b.jpg", quality=100)
    (tmp_path / ".cache").mkdir()
    return tmp_path


def test_images_are_labelled_by_subfolder_and_resized(folder: Path) -> None:
    exact = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(exact).save(folder / "ship" / "c.png")
    loaded = load_test(str(folder))
    assert loaded.labels.tolist() == sorted([*range(10)] * 2 + [8])
    assert loaded.pixels.shape == (21, 32, 32, 4)
    assert loaded.images[2].tolist() == np.full((32, 32, 3), (20, 0, 255)).tolist()
    assert abs(loaded.images[3].astype(int) - 20).max() <= 1
    assert np.array_equal(loaded.images[18], exact), "32x32 images are not resampled"


def test_load_test_reads_batches_and_synthetic_data(batches: Path) -> None:
    images, labels = cifar10.read_batch(batches / "test_batch")
    for path in (batches, batches.parent):
        loaded = load_test(str(path))
        assert np.array_equal(loaded.images, images)
        assert np.array_equal(loaded.labels, labels)
    assert np.array_equal(load_test("synthetic").labels, synthetic.generate().test_labels)


def damage(folder: Path, kind: str) -> None:
    if kind == "missing":
        (folder / "cat").rename(folder.parent / "elsewhere")
    elif kind == "unknown":
        (folder / "zebra").mkdir()
    elif kind == "no images":
        for path in (folder / "deer").iterdir():
            path.unlink()
    elif kind == "broken":
        (folder / "dog" / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n????")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "subfolder for each class: missing cat"),
        ("unknown", "subfolder for each class: unknown zebra"),
        ("no images", "deer"),
        ("broken", "c.png: not an image"),
    ],
)
def test_invalid_image_folder_gives_one_line_error(folder: Path, kind: str, message: str) -> None:
    damage(folder, kind)
    with pytest.raises(UserError, match=message) as caught:
        load_test(str(folder))
    assert "\n" not in str(caught.value)


def test_only_the_test_part_of_a_folder_is_read(folder: Path) -> None:
    for part, count in (("train", 2), ("Test", 1)):
        for name in CLASSES:
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (32, 32), (number, 0, 0)).save(
                    folder / part / name / f"{number}.png"
                )
    for name in CLASSES:
        shutil.rmtree(folder / name)
    assert load_test(str(folder)).labels.tolist() == list(range(10))
    assert load_test(str(folder), "mine").labels.tolist() == list(range(10))
    shutil.rmtree(folder / "train")
    assert load_test(str(folder)).labels.tolist() == list(range(10))


def test_training_images_of_the_same_data_are_left_out(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    for label, name in enumerate(CLASSES):
        (mine / name).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (32, 32), (20 * label, number, 0)).save(mine / name / f"{number}.png")
    trained = data.load(str(mine), "mine")
    assert len(trained.test_labels) == 10
    kept = load_test(str(mine), "mine", trained.spec, trained.digest)
    assert np.array_equal(kept.pixels, trained.test_pixels)
    assert np.array_equal(kept.labels, trained.test_labels)
    for other in (None, "another digest"):
        assert len(load_test(str(mine), "mine", trained.spec, other).labels) == 50


def test_missing_image_folder_is_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_test(str(tmp_path / "nowhere"))
    assert not list(tmp_path.iterdir())
