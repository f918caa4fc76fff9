"""A person's own data: folders of pictures and .npz files; what is wrong in them is one line."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src import data, evaluate
from src.common.errors import ExitStatus, UserError
from src.config import RunConfig
from src.data import custom_data, image_files
from src.data.dataset import Dataset
from src.data.sizes import images_of
from src.data.split import split
from src.report.__main__ import main as report
from src.run import run
from src.runs.run_data import DATA_SPEC, spec_of

CLASSES = ("daisy", "rose", "tulip & co")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def put_pictures(folder: Path, count: int, mode: str = "RGB", first: int = 0) -> None:
    """Write `count` pictures of each class, of several sizes, each of one shade."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            shade = 60 * label + number + first
            colour = shade if mode == "L" else (shade, 0, 255)
            suffix = "png" if number % 2 else "PNG"
            picture = Image.new(mode, (20 + number, 40), colour)
            picture.save(folder / name / f"{number}.{suffix}")
        (folder / name / "notes.txt").write_text("no picture")
    (folder / ".thumbnails").mkdir()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder of 30 colour pictures in three classes, without a test part."""
    put_pictures(tmp_path / "flowers", 10)
    return tmp_path / "flowers"


def shades(dataset: Dataset, part: str) -> list[int]:
    """The red value of each image."""
    images = getattr(dataset, f"{part}_images")
    return images[:, 0, 0, 0].tolist()


def test_folder_of_classes_is_read_with_a_stratified_fifth_as_test(folder: Path) -> None:
    made = data.load(str(folder), "flowers")
    assert made.spec.classes == CLASSES
    assert made.spec.shape == (3, 32, 32)
    assert made.spec.name == "flowers"
    assert (len(made.train_labels), len(made.test_labels)) == (24, 6)
    assert np.bincount(made.test_labels).tolist() == [2, 2, 2]
    for part in ("train", "test"):
        labels = getattr(made, f"{part}_labels")
        assert [shade // 60 for shade in shades(made, part)] == labels.tolist()
    seen = shades(made, "train") + shades(made, "test")
    assert sorted(seen) == sorted(60 * label + n for label in range(3) for n in range(10))
    assert made.train_labels.tolist() != sorted(made.train_labels), "classes are mixed"
    assert custom_data.counts("flowers", str(folder)) == (24, 6, 0)
    assert data.load(str(folder.parent), "flowers").digest == made.digest, "a folder that holds it"
    training, validation = split(made, RunConfig(base_dataset_path=str(folder), dataset="flowers"))
    assert len(validation) == 24 // 5
    assert len(np.intersect1d(training, validation)) == 0


def test_parts_of_a_folder_are_kept(tmp_path: Path) -> None:
    for part, count, first in (("train", 8, 0), ("valid", 2, 20), ("test", 4, 40)):
        put_pictures(tmp_path / "set" / part, count, first=first)
    made = data.load(str(tmp_path / "set"), "flowers@16")
    assert made.spec.shape == (3, 16, 16)
    assert (len(made.train_labels), len(made.test_labels), made.last_batch) == (30, 12, 6)
    assert all(shade % 60 >= 40 for shade in shades(made, "test"))
    _, validation = split(
        made, RunConfig(base_dataset_path=str(tmp_path / "set"), dataset="flowers@16")
    )
    assert [shade % 60 for shade in shades(made, "train")] == [
        *(shade % 60 for shade in shades(made, "train")[:24]),
        *[20, 21] * 3,
    ]
    assert validation.tolist() == list(range(24, 30))


def test_grey_pictures_are_one_channel_unless_one_is_coloured(tmp_path: Path) -> None:
    put_pictures(tmp_path / "grey", 5, mode="L")
    grey = data.load(str(tmp_path / "grey"), "grey")
    assert grey.spec.shape == (1, 32, 32)
    assert grey.train_pixels.shape[3] == 1
    Image.new("RGB", (9, 9), (7, 8, 9)).save(tmp_path / "grey" / CLASSES[0] / "x.png")
    assert data.load(str(tmp_path / "grey"), "grey").spec.channels == 3


def test_renamed_or_changed_pictures_are_not_taken_from_the_cache(folder: Path) -> None:
    before = data.load(str(folder), "flowers")
    assert data.load(str(folder), "flowers").digest == before.digest
    (folder / CLASSES[0] / "0.PNG").rename(folder / CLASSES[1] / "z.png")
    moved = data.load(str(folder), "flowers")
    assert np.bincount(moved.train_labels).sum() == 24
    assert moved.digest != before.digest


def images(count: int = 30, channels: int = 3) -> np.ndarray:
    shape = (count, 28, 28, channels) if channels == 3 else (count, 28, 28)
    return np.random.default_rng(count).integers(0, 256, shape, np.uint8)


LABELS = np.arange(30) % 3


def test_pictures_are_listed_once_for_all_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep has thousands of runs, and a folder thousands of pictures."""
    listed: list[str] = []

    def counts(name: str, path: str) -> tuple[int, int, int]:
        listed.append(path)
        return 40, 10, 0

    monkeypatch.setattr(custom_data, "counts", counts)
    for seed in range(3):
        images_of(RunConfig(base_dataset_path=str(tmp_path), dataset="mine", seed=seed))
    assert listed == [str(tmp_path)]


def npz(tmp_path: Path, **arrays: Any) -> str:
    np.savez(tmp_path / "mine.npz", **arrays)
    return str(tmp_path / "mine.npz")


@pytest.mark.parametrize(
    ("arrays", "classes", "counts"),
    [
        ({"images": images(), "labels": LABELS}, ("0", "1", "2"), (24, 6)),
        ({"images": images(30, 1), "labels": LABELS.astype(np.uint8)}, ("0", "1", "2"), (24, 6)),
        (
            {"images": images(), "labels": np.array(CLASSES)[LABELS]},
            CLASSES,
            (24, 6),
        ),
        (
            {"images": images(), "labels": LABELS, "classes": np.array([*CLASSES, "none"])},
            (*CLASSES, "none"),
            (24, 6),
        ),
        (
            {
                **{"train_images": images(), "train_labels": LABELS[:, None]},
                **{"val_images": images(9), "val_labels": LABELS[:9, None]},
                **{"test_images": images(6), "test_labels": LABELS[:6, None]},
            },
            ("0", "1", "2"),
            (39, 6),
        ),
        (
            {
                **{"train_images": images(), "train_labels": LABELS},
                **{"val_images": images()[:0], "val_labels": np.array([])},
                **{"test_images": images()[:0], "test_labels": LABELS[:0]},
            },
            ("0", "1", "2"),
            (24, 6),  # as without these parts
        ),
    ],
)
def test_npz_is_read(
    tmp_path: Path, arrays: dict[str, Any], classes: tuple[str, ...], counts: tuple[int, int]
) -> None:
    path = npz(tmp_path, **arrays)
    made = data.load(path, "mine")
    assert made.spec.classes == classes
    assert (len(made.train_labels), len(made.test_labels)) == counts
    assert custom_data.counts("mine", path) == (*counts, made.last_batch)
    config = RunConfig(base_dataset_path=path, dataset="mine")
    parts = [len(part) for part in split(made, config)]
    assert images_of(config) == (*parts, len(made.test_labels))
    assert data.load(str(tmp_path), "mine").digest == made.digest, "mine.npz in the folder"
    given = arrays["images" if "images" in arrays else "train_images"]
    assert made.spec.channels == (1 if given.ndim == 3 else 3)
    whole = image_files.resize(given[..., None] if given.ndim == 3 else given, 32)
    assert {image.tobytes() for image in made.train_images} <= {
        *(image.tobytes() for image in whole),
        *(image.tobytes() for image in image_files.resize(images(9), 32)),
    }


BAD: list[tuple[dict[str, Any], str]] = [
    ({"pictures": images()}, "it holds pictures; expected images and labels"),
    ({"images": images().astype(np.float32), "labels": LABELS}, "expected uint8"),
    ({"images": images().transpose(0, 3, 1, 2), "labels": LABELS}, "expected uint8, (N, height"),
    ({"images": images(29), "labels": LABELS}, "29 images in images, but 30 labels"),
    ({"images": images(), "labels": LABELS - 1}, "labels from -1 to 1"),
    ({"images": images(), "labels": LABELS * 600}, "label 1200; expected at most 999"),
    ({"images": images(), "labels": LABELS + 0.5}, "expected (N,), whole numbers"),
    ({"images": images(), "labels": LABELS * 0}, "1 classes; expected 2 to 1000"),
    ({"images": images(), "labels": LABELS, "classes": np.array(["a", "b"])}, "expected 0 to 1"),
    ({"images": images(), "labels": LABELS, "classes": np.array(["a", "a", "b"])}, "twice"),
    ({"images": images(), "labels": LABELS, "classes": np.array(["a", "b", "c\n"])}, "printable"),
    ({"images": images()[:0], "labels": LABELS[:0]}, "no training images in it"),
    ({"images": images(), "labels": np.array([{}] * 30, object)}, "cannot be read: Object arrays"),
    ({"images": images(2), "labels": LABELS[:2]}, "expected more"),
    ({"images": images(), "labels": np.array([*"abz"])[LABELS], "classes": [*"ab"]}, "label 'z'"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "message"), BAD)
def test_wrong_npz_is_one_line(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        data.load(npz(tmp_path, **arrays), "mine")
    assert message in str(caught.value)
    assert "mine.npz" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_damaged_npz_is_one_line(tmp_path: Path) -> None:
    path = Path(npz(tmp_path, images=images(), labels=LABELS))
    whole = path.read_bytes()
    for damaged in (b"", b"PK\x03\x04", whole[:-30], whole[:400] + b"\xff" * 40 + whole[440:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"mine\.npz") as caught:
            data.load(str(path), "mine")
        assert len(str(caught.value).splitlines()) == 1


def break_folder(folder: Path, kind: str) -> None:
    if kind == "no pictures":
        for path in (folder / "rose").iterdir():
            path.unlink()
    elif kind == "broken":
        (folder / "rose" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n????")
    elif kind == "one class":
        for name in CLASSES[1:]:
            (folder / name).rename(folder.parent / name)
    elif kind == "deep":
        depth = np.zeros((9, 9), np.uint16)
        Image.fromarray(depth).save(folder / "rose" / "deep.png")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no pictures", "rose: no pictures; expected files named .png, .jpg"),
        ("broken", "3.png: not an image"),
        ("one class", "1 classes; expected 2 to 1000"),
        ("deep", "deep.png: not an image: mode I;16; expected 8 bits a channel"),
    ],
)
def test_wrong_folder_is_one_line(folder: Path, kind: str, message: str) -> None:
    break_folder(folder, kind)
    with pytest.raises(UserError) as caught:
        data.load(str(folder), "flowers")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_parts_must_have_the_same_classes(tmp_path: Path) -> None:
    put_pictures(tmp_path / "set" / "train", 5)
    put_pictures(tmp_path / "set" / "test", 2)
    (tmp_path / "set" / "test" / "rose").rename(tmp_path / "set" / "test" / "lily")
    with pytest.raises(UserError, match="its classes are not those of train: lily, rose"):
        data.load(str(tmp_path / "set"), "flowers")


def test_pictures_are_resized_with_antialiasing() -> None:
    stripes = np.zeros((1, 128, 128, 3), np.uint8)
    stripes[:, :, ::2] = 254
    small = image_files.resize(stripes, 32)
    inner = small[:, :, 2:-2].astype(int)
    assert abs(inner - 127).max() <= 2, "else every line were black or white"
    assert image_files.resize(stripes, 128) is stripes


def own_run(folder: Path, **settings: Any) -> RunConfig:
    return RunConfig(
        base_dataset_path=str(folder),
        dataset="flowers",
        model_type="cifar10net_3",
        num_epochs=1,
        batch_size=6,
        **settings,
    )


def test_own_data_is_trained_and_reported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = own_run(folder)
    assert images_of(config) == (24 - 4, 4, 6)
    runs, csv = tmp_path / "runs", tmp_path / "runs.csv"
    [outcome] = run([config], runs_dir=runs)
    result = json.loads((outcome.folder / "result.json").read_text())
    assert result[DATA_SPEC] == {
        **{"name": "flowers", "classes": list(CLASSES), "channels": 3, "size": 32}
    }
    assert spec_of(config, result).classes == CLASSES
    for words in (
        ["aggregate", "--runs", str(runs), "--csv", str(csv)],
        ["--runs", str(runs), "--csv", str(csv), "--out", str(tmp_path / "report")],
        ["confusion", "--runs", str(runs), "--out", str(tmp_path / "report")],
        ["classes", "--runs", str(runs)],
    ):
        assert report(words) == ExitStatus.DONE
    assert "tulip & co" in capsys.readouterr().out
    page = (tmp_path / "report" / "report.html").read_text()
    assert "cifar10net_3 on flowers" in page


def test_own_folder_given_as_test_path_leaves_out_what_the_run_was_trained_on(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    expect_bad_input: Callable[..., str],
) -> None:
    [outcome] = run([own_run(folder)], runs_dir=tmp_path / "runs")
    assert outcome.result
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    words = ["--model", str(outcome.folder), "--out", str(tmp_path), "--json", "--test_path"]
    evaluate.main([*words, str(moved)])
    evaluation = json.loads(capsys.readouterr().out)
    assert evaluation["images"] == 6
    assert evaluation["loss"] == outcome.result["test_loss_best_val_acc"]
    moved.rename(folder)
    (folder / CLASSES[0] / "0.PNG").unlink()  # other data, all of which may be new
    error = expect_bad_input(evaluate.main, *words[:-1])
    assert f"trained on data {outcome.result['data_digest']}" in error
    assert str(folder) in error
    folder.rename(moved)
    evaluate.main([*words, str(moved)])
    assert json.loads(capsys.readouterr().out)["images"] == 29


def test_id_counts_the_name_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    assert own_run(folder).id == own_run(moved).id
    names = {own_run(moved).id, RunConfig(**{**own_run(moved).as_dict(), "dataset": "other"}).id}
    assert len(names) == 2
    default = RunConfig(model_type="cifar10net_3")
    text = json.dumps(default.stored(), sort_keys=True)
    assert "cifar100" not in text
    assert hashlib.sha256(text.encode()).hexdigest()


def test_changed_pictures_are_named_and_not_taken_for_done(folder: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run([own_run(folder)], runs_dir=runs)
    Image.new("RGB", (9, 9), (1, 2, 3)).save(folder / "rose" / "0.PNG")
    done, fresh = run([own_run(folder), own_run(folder, seed=1)], runs_dir=runs)
    assert (done.failure or {})["kind"] == "other data"
    assert fresh.result, "and the data was loaded for it"


def test_command_line_suggests_a_name(
    folder: Path, tmp_path: Path, expect_bad_input: Callable[..., str]
) -> None:
    from src.main import main

    words = (
        "-m",
        "cifar10net_3",
        "-e",
        1,
        "--runs",
        tmp_path / "runs",
        "--wandb",
        "disabled",
        "-q",
    )
    error = expect_bad_input(main, "-d", folder, *words)
    assert error == (
        f"error: -d/--base_dataset_path {str(folder)!r}: no CIFAR-10 in it, but a folder of "
        "pictures for each class; --dataset flowers gives it a name\n"
    )
    assert not (tmp_path / "runs").exists()
