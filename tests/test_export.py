"""python -m src.evaluate export: a program that loads without this project, and its model card."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.common.paths import ROOT
from src.common.removed_files import record_removal
from src.config import RunConfig
from src.data import synthetic
from src.data.device_dataset import DeviceImages
from src.data.spec import CLASSES
from src.evaluate import main
from src.run import run
from src.runs.restore import evaluate_saved, normalization_of, of_run
from src.runs.run_folder import RunFolder

LOADER = """
import json, sys
import numpy as np, torch
try:
    import src
except ImportError:
    pass
else:
    raise SystemExit("src can be imported here")
extra = {"classes.json": "", "config.json": ""}
model = torch.export.load(sys.argv[1], extra_files=extra).module()
images = torch.from_numpy(np.load(sys.argv[2]))
logits = torch.cat([model(images[:1]), model(images[1:8]), model(images[8:])])
np.save(sys.argv[3], logits.detach().numpy())
print(json.dumps(json.loads(extra["classes.json"])))
"""
SMALL: dict[str, Any] = {
    "max_images": 60,
    "num_epochs": 1,
    "batch_size": 20,
    "precision": "float32",
}
CASES: dict[str, dict[str, Any]] = {
    "cifar10net": {"normalization": "measured", "ema": 0.9},
    "resnet": {"normalization": "cifar10", "memory_format": "channels_last"},
    "resnet18_transfer": {
        **{"weights": "none", "freeze_backbone": False, "max_images": 20},
        **{"memory_format": "channels_last", "convolution": "direct"},
    },
}


def load_elsewhere(program: Path, images: np.ndarray, folder: Path) -> tuple[np.ndarray, list[str]]:
    """Return the logits and class names from a process that cannot import src."""
    np.save(folder / "images.npy", images)
    words = [sys.executable, "-I", "-c", LOADER, program, folder / "images.npy"]
    logits = folder / "logits.npy"
    done = subprocess.run(
        [*map(str, words), str(logits)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return np.load(logits), json.loads(done.stdout)


def trained(runs: Path, model: str, **settings: Any) -> RunFolder:
    config = RunConfig(model_type=model, base_dataset_path="synthetic", **{**SMALL, **settings})
    [outcome] = run([config], runs_dir=runs)
    assert outcome.result
    return RunFolder(outcome.folder)


@pytest.mark.parametrize("model", CASES)
def test_program_predicts_as_the_run_without_the_project(model: str, tmp_path: Path) -> None:
    folder = trained(tmp_path / "runs", model, **CASES[model])
    out = tmp_path / "model.pt2"
    assert main(["export", str(folder.path), "--out", str(out)]) == 0
    count = CASES[model].get("max_images", SMALL["max_images"])
    images = synthetic.generate().test_images[:count].transpose(0, 3, 1, 2).copy()
    logits, classes = load_elsewhere(out, images, tmp_path)
    assert classes == list(CLASSES)
    expected = own_logits(folder)
    # kernels and batches differ in the last bits of float32
    assert np.abs(logits - expected).max() < 1e-4 * max(1.0, np.abs(expected).max())
    assert np.ptp(expected, axis=1).min() > 1e-3  # no constant output


def test_grey_images_of_other_classes_are_exported(tmp_path: Path) -> None:
    folder = trained(tmp_path / "runs", "cifar10net_3", dataset="mnist", num_epochs=1)
    out = tmp_path / "model.pt2"
    assert main(["export", str(folder.path), "--out", str(out)]) == 0
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 32, 32), np.uint8)
    logits, classes = load_elsewhere(out, images, tmp_path)
    assert logits.shape == (3, 10)
    assert np.ptp(logits) > 0
    assert classes == list("0123456789")
    assert "a batch of grey images, uint8, (N, 1, 32, 32)" in out.with_suffix(".md").read_text()


def own_logits(folder: RunFolder) -> np.ndarray:
    """Return the logits of the project's own evaluation of a run's test images."""
    saved = of_run(folder.path)
    data = synthetic.generate()
    count = saved.config.max_images
    images = DeviceImages.put(
        data.test_pixels[:count], data.test_labels[:count], torch.device("cpu")
    )
    table = normalization_of(saved.config, data.spec, data)
    return evaluate_saved(saved, images, torch.arange(count), table, data.spec).logits.numpy()


def test_card_says_what_a_user_needs(config: RunConfig, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    small = replace(config, num_epochs=1, max_images=100)
    run([small, replace(small, seed=1), replace(small, seed=2)], runs_dir=runs)
    out = tmp_path / "net.pt2"
    words = ["export", small.config_id[:6], "--runs", str(runs), "--out", str(out)]
    assert main(words) == 0
    card = out.with_suffix(".md").read_text()
    results = {}
    for seed in range(3):
        folder = RunFolder.of(replace(small, seed=seed), runs)
        results[seed] = folder.result() or {}
    best = max(results, key=lambda seed: results[seed]["best_val_accuracy"])
    assert f"| trained with seed | {best} |" in card
    tests = [result["test_accuracy_best_val_acc"] for result in results.values()]
    assert f"{np.mean(tests):.2%} over 3 seeds (" in card
    assert "| its seeds | 0, 1, 2; it was chosen by some of them" in card
    assert f"| data | digest {results[0]['data_digest']} of all images and labels |" in card
    assert f"{tests[best]:.2%} of 100 images" in card
    assert "python src/main.py -d synthetic" in card
    assert "(N, 3, 32, 32)" in card
    code = card.partition("```python\n")[2].partition("```")[0]
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_bad_input_is_one_line(
    config: RunConfig, tmp_path: Path, expect_bad_input: Callable[..., str]
) -> None:
    runs = tmp_path / "runs"
    small = replace(config, num_epochs=1, max_images=100)
    bare = replace(small, seed=1, keep_checkpoints="none")
    run([small, bare], runs_dir=runs)
    pending = RunFolder.of(replace(small, seed=2), runs)
    pending.register(replace(small, seed=2))
    out, export = tmp_path / "m.pt2", ("export", "--runs", runs)

    def refused(*words: object) -> str:
        return expect_bad_input(main, *export, *words)

    assert "expected a name that ends in .pt2" in refused(small.id, "--out", tmp_path / "m.pth")
    assert "no such folder" in refused(small.id, "--out", tmp_path / "none" / "m.pt2")
    assert "no such run under" in refused("0" * 10, "--out", out)
    assert "--keep_checkpoints none" in refused(bare.id, "--out", out)
    assert "the run is pending" in refused(pending.path, "--out", out)
    folder = RunFolder.of(small, runs)
    (folder.path / "best_val_acc.pt").unlink()
    record_removal(folder.path, ["best_val_acc.pt"])
    assert "`python -m src.sweep clean` removed it on" in refused(small.id, "--out", out)
    assert not out.exists()


def test_help_mentions_export() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "src.evaluate", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert "python -m src.evaluate export" in done.stdout
