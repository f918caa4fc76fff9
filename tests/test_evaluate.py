"""src.evaluate: accuracy and loss of run folders and of foreign weights on any test images."""

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
from src.config import CHECKPOINT_KINDS, PRECISIONS
from src.data import synthetic
from src.data.spec import CLASSES
from src.evaluate import main
from src.runs import restore
from src.runs.run_folder import RunFolder, all_runs
from tests.conftest import RunCommand

ExpectBadInput = Callable[..., str]


@pytest.fixture
def measured(trained: Path) -> RunFolder:
    """Return a run trained with normalisation measured on its training split."""
    runs = list(all_runs(trained, "cifar10net"))
    return next(run for run in runs if (run.config() or {})["normalization"] == "measured")


@pytest.fixture
def foreign_weights(tmp_path: Path) -> Path:
    """Save TinyVGG weights under parameter names that differ from the model's."""
    state = models.create("tinyvgg", hidden_units=4).state_dict()
    path = tmp_path / "theirs.pt"
    torch.save({"state_dict": {f"module.l{n}": t for n, t in enumerate(state.values())}}, path)
    return path


def evaluate_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """Call main with `--json` and return the parsed output."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    evaluation: dict[str, Any] = json.loads(capsys.readouterr().out)
    return evaluation


def test_evaluating_run_checkpoints_reproduces_result_json(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in all_runs(trained):
        result = run.result() or {}
        for kind in CHECKPOINT_KINDS if "tinyvgg" in run.path.name else CHECKPOINT_KINDS[:1]:
            path = run.path / f"{kind}.pt"
            evaluation = evaluate_json(capsys, "--model", path, "--out", tmp_path)
            assert evaluation["images"] == result["test_images"] == 300
            for name in ("accuracy", "loss", "per_class_accuracy"):
                assert evaluation[name] == result[f"test_{name}_{kind}"]
            for per_class in evaluation["classes"]:
                column = f"test_per_class_accuracy_{per_class['class']}_{kind}"
                assert per_class["accuracy"] == result[column]


@pytest.mark.parametrize(
    ("capability", "native"),
    [
        ((6, 1), {"float32"}),
        ((7, 0), {"float32", "float16"}),
        ((8, 0), {"float32", "float16", "bfloat16", "tf32"}),
    ],
)
def test_precision_of_the_training_is_kept_where_the_gpu_has_it(
    capability: tuple[int, int], native: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **how: capability >= (8, 0))
    for precision in PRECISIONS[1:]:
        result = {"precision": precision, "memory_format": "channels_last"}
        kept = restore._compute_format(result, torch.device("cuda")).precision
        assert kept == (precision if precision in native else "float32")


def test_run_folder_evaluates_best_checkpoint_and_saves_charts(
    measured: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(measured.path), "--out", str(tmp_path / "o"), "--batch", "3"]
    assert main([*arguments, "--confusion"]) == 0
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
    main([*arguments, "--confusion"])
    assert before == {path: path.read_bytes() for path in before}
    main([*arguments, "--seed", "1"])
    assert (tmp_path / "o" / f"{stem}_test_images.svg").read_text() != svg


_KINDS = ("png", "svg")


def test_test_path_uses_all_images_with_run_normalization(
    measured: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Test images are normalised as in training, both from the data set and from a folder."""
    arguments = ["--model", measured.path, "--out", tmp_path, "--test_path"]
    assert evaluate_json(capsys, *arguments, "synthetic")["images"] == synthetic.TEST_IMAGES
    dataset = synthetic.generate()
    for place in range(300):
        folder = tmp_path / "images" / CLASSES[dataset.test_labels[place]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(dataset.test_images[place])).save(folder / f"{place}.png")
    evaluation = evaluate_json(capsys, *arguments, tmp_path / "images")
    result = measured.result() or {}
    assert evaluation["accuracy"] == result["test_accuracy_best_val_acc"]
    assert evaluation["loss"] == pytest.approx(result["test_loss_best_val_acc"], rel=1e-5)


def test_foreign_weights_match_direct_evaluation(
    foreign_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", foreign_weights, "--model_type", "tinyvgg", "--hidden_units", 4]
    arguments += ["--test_path", "synthetic", "--out", tmp_path / "o"]
    evaluation = evaluate_json(capsys, *arguments, "--normalization", "half")
    model = models.create("tinyvgg", hidden_units=4).eval()
    state = torch.load(foreign_weights, weights_only=True)["state_dict"]
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    dataset = synthetic.generate()
    images = torch.from_numpy(dataset.test_images.copy()).permute(0, 3, 1, 2) / 255
    labels = torch.from_numpy(dataset.test_labels)
    with torch.no_grad():
        logits = model((images - 0.5) / 0.5)
    assert evaluation["loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-4
    )
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    assert evaluation["accuracy"] == pytest.approx(accuracy, abs=0.002)
    assert (tmp_path / "o" / "theirs_test_images.png").exists()
    assert evaluate_json(capsys, *arguments)["loss"] != evaluation["loss"], (
        "default normalisation is ImageNet's"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
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
        (("--model", "FILE", "--model_type", "vgg6", "--normalization", "measured"), "unknown"),
        ((), "required: --model"),
    ],
)
def test_bad_input_gives_one_line_error(
    expect_bad_input: ExpectBadInput,
    trained: Path,
    foreign_weights: Path,
    tmp_path: Path,
    arguments: Any,
    message: str,
) -> None:
    substitutes = {"RUN": next(all_runs(trained)).path, "FILE": foreign_weights}
    test = () if "--test_path" in arguments else ("--test_path", "synthetic")
    substituted = [substitutes.get(str(word), word) for word in arguments]
    assert message in expect_bad_input(main, *substituted, *test, "--out", tmp_path / "o")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("missing", ["best_val_acc.pt", "config.json", "result.json"])
def test_run_folder_with_missing_file(
    expect_bad_input: ExpectBadInput,
    capsys: pytest.CaptureFixture[str],
    measured: RunFolder,
    tmp_path: Path,
    missing: str,
) -> None:
    folder = shutil.copytree(measured.path, tmp_path / measured.path.name)
    (folder / missing).unlink()
    if missing == "result.json":  # then evaluated in float32, as it was trained
        evaluation = evaluate_json(capsys, "--model", folder, "--out", tmp_path)
        assert evaluation["accuracy"] == (measured.result() or {})["test_accuracy_best_val_acc"]
    else:
        assert missing in expect_bad_input(main, "--model", folder, "--out", tmp_path / "o")


def test_json_output_of_command(command: RunCommand, measured: RunFolder, tmp_path: Path) -> None:
    completed = command(
        *("python", "-m", "src.evaluate", "--model", measured.path, "--out", tmp_path, "--json"),
    )
    assert json.loads(completed.stdout)["images"] == 300
    assert not completed.stderr


def test_training_and_validation_images_are_evaluated_without_augmentation(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The validation accuracy is that of the best epoch; the pictures are named by their split."""
    run = next(run for run in all_runs(trained, "tinyvgg"))
    result, images = run.result() or {}, (run.config() or {})["max_images"]
    arguments = ["--model", run.path, "--out", tmp_path, "--split"]
    validation = evaluate_json(capsys, *arguments, "validation")
    assert validation["accuracy"] == result["best_val_accuracy"]
    training = evaluate_json(capsys, *arguments, "training")
    assert (training["split"], training["images"]) == ("training", images)
    assert main([*map(str, arguments), "training"]) == 0
    assert f"{images} training images" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*_training_images.png"))) == 1


def test_split_goes_with_a_run_alone(
    trained: Path, foreign_weights: Path, expect_bad_input: ExpectBadInput
) -> None:
    words = ["--model", foreign_weights, "--model_type", "tinyvgg", "--hidden_units", 4]
    line = expect_bad_input(main, *words, "--split", "training")
    assert "--split 'training': only for a run" in line
    run = next(run for run in all_runs(trained))
    words = ["--model", run.path, "--split", "training", "--test_path", "synthetic"]
    assert "not allowed with" in expect_bad_input(main, *words)
    assert "training" in expect_bad_input(main, "--model", run.path, "--split", "all")


def test_numbers_are_printed_although_the_pictures_cannot_be_written(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    run = next(run for run in all_runs(trained))
    with pytest.raises(OSError, match="file"):
        main(["--model", str(run.path), "--out", str(tmp_path / "file" / "folder")])
    assert "mean per-class accuracy" in capsys.readouterr().out
