"""src.evaluate: the numbers are those of the run, whoever's weights, whatever images."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src import models
from src.config import CHECKPOINT_KINDS
from src.data import synthetic
from src.data.dataset import CLASSES
from src.evaluate import main
from src.runs.run_folder import RunFolder, all_runs
from tests.conftest import Run

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in is drawn once."""
    monkeypatch.setattr(synthetic, "generate", _generate)


_generate = functools.cache(synthetic.generate)


@pytest.fixture
def measured(trained: Path) -> RunFolder:
    """A run whose normalisation was measured on its training split."""
    runs = list(all_runs(trained, "cifar10net"))
    return next(run for run in runs if (run.config() or {})["normalization"] == "measured")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Weights of a network with names of its own."""
    state = models.create("tinyvgg", hidden_units=4).state_dict()
    path = tmp_path / "theirs.pt"
    torch.save({"state_dict": {f"module.l{n}": t for n, t in enumerate(state.values())}}, path)
    return path


def numbers(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """What `--json` prints, and nothing else is on stdout."""
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_run_gives_its_own_numbers(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in all_runs(trained):
        result = run.result() or {}
        for kind in CHECKPOINT_KINDS if "tinyvgg" in run.path.name else CHECKPOINT_KINDS[:1]:
            path = run.path / f"{kind}.pt"
            found = numbers(capsys, "--model", path, "--out", tmp_path)
            assert found["images"] == result["test_images"] == 300
            for name in ("accuracy", "loss", "per_class_accuracy"):
                assert found[name] == result[f"test_{name}_{kind}"]
            for one in found["classes"]:
                column = f"test_per_class_accuracy_{one['class']}_{kind}"
                assert one["accuracy"] == result[column]


def test_a_folder_means_its_best_weights_and_draws_them(
    measured: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(measured.path), "--out", str(tmp_path / "o"), "--batch", "3"]
    assert main([*words, "--confusion"]) == 0
    out = capsys.readouterr().out
    result = measured.result() or {}
    assert f"{result['test_accuracy_best_val_acc']:.2%}" in out
    assert "Wilson" in out
    stem = f"cifar10net-{result['run_id']}"
    names = {f"{stem}_{what}.{kind}" for what in ("test_images", "confusion") for kind in _KINDS}
    assert {path.name for path in (tmp_path / "o").iterdir()} == names
    assert len(out.splitlines()[-1].split()) == 1
    svg = (tmp_path / "o" / f"{stem}_test_images.svg").read_text()
    assert svg.count("/ predicted: ") == 3
    assert svg.count("\N{CHECK MARK}") + svg.count("\N{BALLOT X}") == 3
    before = {path: path.read_bytes() for path in (tmp_path / "o").iterdir()}
    main([*words, "--confusion"])
    assert before == {path: path.read_bytes() for path in before}
    main([*words, "--seed", "1"])
    assert (tmp_path / "o" / f"{stem}_test_images.svg").read_text() != svg


_KINDS = ("png", "svg")


def test_all_test_images_where_they_are_named(
    measured: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Normalised as the run's own training images were."""
    words = ["--model", measured.path, "--out", tmp_path, "--test_path"]
    assert numbers(capsys, *words, "synthetic")["images"] == synthetic.TEST_IMAGES
    dataset = synthetic.generate()
    for place in range(300):
        folder = tmp_path / "pictures" / CLASSES[dataset.test_labels[place]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(dataset.test_images[place])).save(folder / f"{place}.png")
    found = numbers(capsys, *words, tmp_path / "pictures")
    result = measured.result() or {}
    assert found["accuracy"] == result["test_accuracy_best_val_acc"]
    assert found["loss"] == pytest.approx(result["test_loss_best_val_acc"], rel=1e-5)


def test_weights_from_elsewhere(
    elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", elsewhere, "--model_type", "tinyvgg", "--hidden_units", 4]
    words += ["--test_path", "synthetic", "--out", tmp_path / "o"]
    found = numbers(capsys, *words, "--normalization", "half")
    model = models.create("tinyvgg", hidden_units=4).eval()
    state = torch.load(elsewhere, weights_only=True)["state_dict"]
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    dataset = synthetic.generate()
    images = torch.from_numpy(dataset.test_images.copy()).permute(0, 3, 1, 2) / 255
    labels = torch.from_numpy(dataset.test_labels)
    with torch.no_grad():
        logits = model((images - 0.5) / 0.5)
    assert found["loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-4
    )
    right = (logits.argmax(1) == labels).float().mean().item()
    assert found["accuracy"] == pytest.approx(right, abs=0.002)
    assert (tmp_path / "o" / "theirs_test_images.png").exists()
    assert numbers(capsys, *words)["loss"] != found["loss"], "normalised as ImageNet is"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "nowhere"), "nowhere: no such file or folder"),
        (("--model", "RUN", "--fc1", 3), "--fc1: only with --model_type"),
        (("--model", "RUN", "--model_type", "cnn"), "a run folder tells its model"),
        (("--model", "RUN", "--batch", 0), "whole number above 0"),
        (("--model", "RUN", "--batch", 1000), "at most 200"),
        (("--model", "RUN", "--seed", -1), "from 0 to"),
        (("--model", "RUN", "--test_path", "nowhere"), "no such folder"),
        (("--model", "RUN", "--device", "tpu"), "expected one of auto, cpu, cuda"),
        (("--model", "FILE"), "no config.json beside the weights; --model_type names a model"),
        (("--model", "FILE", "--model_type", "lenet"), "expected one of resnet"),
        (("--model", "FILE", "--model_type", "resnet", "--fc1", 3), "no such option"),
        (("--model", "FILE", "--model_type", "tinyvgg"), "entry 1 does not fit"),
        (("--model", "FILE", "--model_type", "vgg6", "--normalization", "measured"), "nobody"),
        ((), "required: --model"),
    ],
)
def test_bad_input_is_one_line(
    refused: Refused, trained: Path, elsewhere: Path, tmp_path: Path, words: Any, said: str
) -> None:
    stand_for = {"RUN": next(all_runs(trained)).path, "FILE": elsewhere}
    test = () if "--test_path" in words else ("--test_path", "synthetic")
    given = [stand_for.get(str(word), word) for word in words]
    assert said in refused(main, *given, *test, "--out", tmp_path / "o")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("missing", ["best_val_acc.pt", "config.json", "result.json"])
def test_a_run_without_its_files(
    refused: Refused,
    capsys: pytest.CaptureFixture[str],
    measured: RunFolder,
    tmp_path: Path,
    missing: str,
) -> None:
    folder = shutil.copytree(measured.path, tmp_path / measured.path.name)
    (folder / missing).unlink()
    if missing == "result.json":  # then in float32, which is what it was
        found = numbers(capsys, "--model", folder, "--out", tmp_path)
        assert found["accuracy"] == (measured.result() or {})["test_accuracy_best_val_acc"]
    else:
        assert missing in refused(main, "--model", folder, "--out", tmp_path / "o")


def test_as_a_command(command: Run, measured: RunFolder, tmp_path: Path) -> None:
    done = command(
        *("python", "-m", "src.evaluate", "--model", measured.path, "--out", tmp_path, "--json"),
    )
    assert json.loads(done.stdout)["images"] == 300
    assert not done.stderr
