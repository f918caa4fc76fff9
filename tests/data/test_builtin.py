"""The built-in data sets: read from their official files, trained, evaluated and reported."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from src import data, evaluate
from src.common.data_names import DATASETS
from src.common.errors import ExitStatus, UserError
from src.config import RunConfig
from src.data import builtin, download
from src.data.builtin import BUILT_IN
from src.data.image_files import resize
from src.data.sizes import images_of
from src.report.__main__ import main as report
from src.run import run
from tests.data import official_files
from tests.data.official_files import NAMES, TEST, TRAIN, images_and_labels


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the data set that the test names in its official format."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return official_files.write(request.param, tmp_path / "data", monkeypatch)


each = pytest.mark.parametrize(
    ("root", "name"), [(name, name) for name in NAMES], indirect=["root"]
)


@each
def test_official_files_are_read(root: Path, name: str) -> None:
    read = data.load(str(root), name)
    known = BUILT_IN[name]
    for part in ("train", "test"):
        images, labels = images_and_labels(name, part)
        expected = resize(images, 32)
        assert np.array_equal(getattr(read, f"{part}_images"), expected)
        assert np.array_equal(getattr(read, f"{part}_labels"), labels)
    assert read.spec == known.spec(name, 32)
    assert read.train_pixels.shape[3] == (1 if known.channels == 1 else 4)
    again = data.load(str(root / known.folder), name)
    assert again.digest == read.digest, "from the folder of the files itself, and the cache"
    assert data.looks_like(str(root)) == name


@each
def test_run_is_trained_evaluated_and_reported(
    root: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = RunConfig(
        base_dataset_path=str(root),
        dataset=name,
        model_type="cifar10net_3",
        num_epochs=1,
        batch_size=20,
        val_split="random",
        val_size=20,
        data_augmentation=True,
    )
    assert images_of(config) == (TRAIN - 20, 20, TEST)
    runs = tmp_path / "runs"
    [outcome] = run([config], runs_dir=runs)
    assert outcome.result
    assert outcome.folder.name.endswith(f"_data_{name}-{config.id}")
    classes = BUILT_IN[name].classes
    column = f"test_per_class_accuracy_{classes[3]}_best_val_acc"
    assert column in outcome.result
    pictures = [] if name == "mnist" else ["--json"]  # one with pictures: they take a second
    words = ["--model", str(outcome.folder), *pictures, "--out", str(tmp_path / "out")]
    assert evaluate.main(words) == ExitStatus.DONE
    assert classes[0] in capsys.readouterr().out

    csv = tmp_path / "runs.csv"
    assert report(["aggregate", "--runs", str(runs), "--csv", str(csv)]) == ExitStatus.DONE
    assert column in csv.read_text().splitlines()[0].split(",")
    capsys.readouterr()
    assert report(["top-k", "table", "--csv", str(csv)]) == ExitStatus.DONE
    assert f"cifar10net_3 on {name}" in capsys.readouterr().out


@each
def test_folder_inside_is_followed_to_the_files_but_one_beside_is_not(
    root: Path, name: str
) -> None:
    inside = root / Path(BUILT_IN[name].folder)
    for folder in (inside, *inside.parents[: len(Path(BUILT_IN[name].folder).parts)]):
        assert builtin.root_of(name, folder) == root
    for other in (root / "flowers", root / "FashionMNIST" / "flowers", root / "a" / "raw"):
        (other / "daisy").mkdir(parents=True)
        assert builtin.root_of(name, other) is None
        assert data.recognise(str(other)) is None


def damage(name: str, root: Path, kind: str) -> None:
    known = BUILT_IN[name]
    file = root / known.folder / known.files[0]
    if kind == "missing":
        file.unlink()
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    elif kind == "other bytes":
        file.write_bytes(b"\x00\x00\x08\x03" + os.urandom(500))


@pytest.mark.parametrize("kind", ["missing", "cut", "other bytes"])
@each
def test_damaged_files_give_one_line_error(root: Path, name: str, kind: str) -> None:
    damage(name, root, kind)
    with pytest.raises(UserError) as caught:
        data.load(str(root), name)
    assert len(str(caught.value).splitlines()) == 1
    if kind == "missing":
        assert BUILT_IN[name].files[0] in str(caught.value)
    else:
        assert f"not {BUILT_IN[name].reader}" in str(caught.value)


@each
def test_wrong_number_of_images_is_named(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = {**builtin.BUILT_IN, name: BUILT_IN[name]}
    monkeypatch.setattr(builtin, "BUILT_IN", full)
    with pytest.raises(UserError, match=f"expected {BUILT_IN[name].train} of both"):
        data.load(str(root), name)


@pytest.mark.parametrize("root", ["svhn"], indirect=True)
def test_missing_folder_is_downloaded_all_or_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(reader: datasets.SVHN) -> None:
        for path in root.iterdir():
            shutil.copy(path, reader.root)

    monkeypatch.setattr(datasets.SVHN, "download", fetch)
    folder = tmp_path / "far" / "svhn"
    assert data.load(str(folder), "svhn").digest == data.load(str(root), "svhn").digest
    assert sorted(os.listdir(folder.parent)) == ["svhn"]

    def fail(reader: datasets.SVHN) -> None:
        raise RuntimeError("File not found\nor corrupted.")

    monkeypatch.setattr(datasets.SVHN, "download", fail)
    with pytest.raises(UserError, match="svhn could not be downloaded") as caught:
        data.load(str(tmp_path / "other" / "svhn"), "svhn")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "other").exists()
    assert download.download.__doc__


@pytest.mark.parametrize("dataset", [*DATASETS, "cifar10@16", "stl10@64"])
def test_stand_in_has_the_interface_of_the_real_one(dataset: str) -> None:
    name, _, size = dataset.partition("@")
    made = data.load("synthetic", dataset)
    known = BUILT_IN[name]
    assert made.spec.classes == known.classes
    assert made.spec.shape == (known.channels, int(size or 32), int(size or 32))
    assert set(made.train_labels) == set(range(len(known.classes)))
    assert made.spec.name == RunConfig(base_dataset_path="synthetic", dataset=dataset).data_name
    assert made.digest == data.load("synthetic", dataset).digest
    assert made.train_images.std() > 20


def test_hundred_classes_can_be_learned(tmp_path: Path) -> None:
    """Hue and shape together tell the class: a linear model of mean colour alone gets the hue."""
    made = data.load("synthetic", "cifar100")
    colour = torch.tensor(made.train_images.reshape(len(made.train_labels), -1, 3).mean(axis=1))
    hue = made.train_labels // 10
    means = torch.stack([colour[torch.tensor(hue == one)].mean(dim=0) for one in range(10)])
    assert torch.pdist(means).min() > 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("synthetic", "flowers"), "there is no stand-in for it"),
        (("nowhere-at-all", "flowers"), "no such folder or file"),
    ],
)
def test_unknown_data_is_one_line(words: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        data.load(*words)
    assert "\n" not in str(caught.value)


def test_names_are_checked(expect_bad_input: Callable[..., str]) -> None:
    from src.main import main

    for name in ("cifar10@32", "cifar10@33", "../x", "synthetic", "a b"):
        error = expect_bad_input(main, "-d", "synthetic", "--dataset", name)
        assert error.startswith(f"error: --dataset {name!r}: expected one of cifar10, cifar100")
