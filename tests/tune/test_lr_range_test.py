"""Learning-rate range test, compared with torch-lr-finder, and its stored suggestions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from src.common.errors import Stopped, UserError
from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.main import main
from src.runs.run_folder import RunFolder
from src.training.cuda_graphs import GraphRunner
from src.training.learner import Learner
from src.training.precision import select_compute_format
from src.tune import lr_range_test
from src.tune.lr_range_test import RangeTestCurve, RateSweep, range_test
from tests import own_nets
from tests.conftest import RunCommand
from tests.tune.conftest import Tune

SWEEP = RateSweep(start=1e-5, end=10, steps=60)


@pytest.fixture
def augmented(config: RunConfig) -> RunConfig:
    return replace(config, data_augmentation=True)


def torch_lr_finder_curve(
    config: RunConfig, small: DeviceDataset, sweep: RateSweep
) -> tuple[RangeTestCurve, float]:
    """Run torch-lr-finder on the same batches, without autocast; return curve and suggestion."""
    import matplotlib.pyplot as plt
    from torch_lr_finder import LRFinder, TrainDataLoaderIter

    learner = Learner(
        config, small, GraphRunner(small.device), select_compute_format(config, small.device)
    )

    class BatchSource(TrainDataLoaderIter):
        def __init__(self) -> None:
            self.step = 0

        def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
            epoch, step = divmod(self.step, len(learner.bounds))
            samples = learner.order(epoch)[slice(*learner.bounds[step])]
            self.step += 1
            at = torch.tensor(epoch)
            images, labels = small.train.batch(
                samples, learner.normalization, learner.augmentation, at
            )
            return images.contiguous(memory_format=learner.compute_format.layout), labels

    finder = LRFinder(learner.model, learner.optimizer, torch.nn.CrossEntropyLoss())
    finder.range_test(BatchSource(), start_lr=sweep.start, end_lr=sweep.end, num_iter=sweep.steps)
    figure, axes = plt.subplots()
    _, suggestion = finder.plot(ax=axes)
    plt.close(figure)
    return RangeTestCurve(tuple(finder.history["lr"]), tuple(finder.history["loss"])), suggestion


@pytest.mark.filterwarnings("ignore")  # of tqdm and torch_lr_finder
def test_range_test_matches_torch_lr_finder(
    augmented: RunConfig, small_data: DeviceDataset
) -> None:
    plain = replace(augmented, precision="float32", memory_format="contiguous")
    curve = range_test(plain, small_data, SWEEP)
    expected, suggestion = torch_lr_finder_curve(plain, small_data, SWEEP)
    np.testing.assert_allclose(curve.rates, expected.rates, rtol=1e-9)
    np.testing.assert_allclose(curve.losses, expected.losses, rtol=1e-3)
    assert curve.suggestion == float(f"{suggestion:.3g}")


def test_range_test_is_deterministic_and_plausible(
    augmented: RunConfig, small_data: DeviceDataset
) -> None:
    before = torch.get_rng_state()
    curve = range_test(augmented, small_data, SWEEP)
    assert curve == range_test(augmented, small_data, SWEEP)
    assert torch.equal(before, torch.get_rng_state())
    assert 1e-4 < curve.suggestion < 1
    losses = np.array(curve.losses)
    assert losses.min() < losses[0]
    assert curve.rates[losses.argmin()] > curve.suggestion


def test_range_test_stops_at_divergence(config: RunConfig, small_data: DeviceDataset) -> None:
    curve = range_test(config, small_data, RateSweep(1e-4, 1e9, 100))
    assert 17 <= len(curve.losses) < 100
    with pytest.raises(UserError, match="too few"):
        _ = range_test(config, small_data, RateSweep(1e6, 1e9, 100)).suggestion
    with pytest.raises(Stopped):
        range_test(config, small_data, SWEEP, stop=lambda: True)


def test_suggestion_is_at_steepest_descent() -> None:
    losses = [2.3] * 30 + [2.0, 1.8, 1.75] + [1.75] * 20
    rates = [float(f"{10 ** (i / 10 - 6):.8g}") for i in range(len(losses))]
    curve = RangeTestCurve(tuple(rates), tuple(losses))
    assert curve.suggested == 30
    assert curve.suggestion == 0.001


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", 16), "--steps '16': expected at least 17"),
        (("--steps", "x"), "'x': expected a whole number above 0"),
        (("--start", 0), "'0': expected a number above 0"),
        (("--start", 1, "--end", 0.1), "--start '1.0': expected less than --end 0.1"),
        (("-b", 1), "-b/--batch_size '1'"),
        (("--precision", "tf32", "--device", "cpu"), "has no TF32; expected auto, float32"),
    ],
)
def test_bad_input_gives_one_line_error(tune: Tune, words: tuple, message: str) -> None:
    with pytest.raises(UserError) as caught:
        tune("lr-find", "-d", "synthetic", *words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_own_model_with_wrong_output_gives_one_line_error(
    tune: Tune, small_synthetic: None, tmp_path: Path
) -> None:
    net = own_nets.write(tmp_path, own_nets.SMALL.replace("return self", "return 0, self"))
    with pytest.raises(UserError, match="it returned tuple for 4 images") as caught:
        tune("lr-find", "-d", "synthetic", "-m", f"{net}:SmallNet")
    assert "\n" not in str(caught.value)


def test_lr_find_command(tune: Tune, small_synthetic: None, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("model_type: cifar10net\nlearning_rate: find\nmax_images: 500\n")
    words = ("lr-find", "--config", recipe, "-d", "synthetic", "-b", 50, "--out", tmp_path / "out")
    result = json.loads(tune(*words, "--steps", 40, "--json").out)
    assert set(result) == {"learning_rate", "steps"}
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"tiny_lr_find.{kind}" for kind in ("png", "svg", "csv")}
    lines = (tmp_path / "out" / "tiny_lr_find.csv").read_text().splitlines()
    assert lines[0] == "learning_rate,loss"
    assert len(lines) == result["steps"] + 1
    assert f"{result['learning_rate']:g}" in (tmp_path / "out" / "tiny_lr_find.svg").read_text()


def test_learning_rate_find_is_stored_and_reused(
    no_signal_handlers: None,
    small_synthetic: None,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    recipe, runs = tmp_path / "tiny.yaml", tmp_path / "runs"
    recipe.write_text(
        "base_dataset_path: synthetic\nmodel_type: cifar10net\nlearning_rate: find\n"
        "max_images: 300\nbatch_size: 50\nnum_epochs: 1\n"
    )
    main(["--config", str(recipe), "--runs", str(runs)])
    first = capsys.readouterr()
    [stored] = (runs / "cifar10net").glob("learning_rate-*.json")
    rate = json.loads(stored.read_text())["learning_rate"]
    assert f"_lr_{rate}_" in first.out
    flags = "-d synthetic -m cifar10net --max_images 300 -b 50 -e 1 -l find --runs"
    main([*flags.split(), str(runs)])
    again = capsys.readouterr()
    assert again.out == first.out
    assert "epoch" not in again.err
    assert len([p for p in (runs / "cifar10net").iterdir() if p.is_dir()]) == 1


def test_first_stored_suggestion_is_used(
    config: RunConfig, tmp_path: Path, no_signal_handlers: None, small_synthetic: None
) -> None:
    result = lr_range_test.with_suggested_rate(config, tmp_path, quiet=True)
    assert result == lr_range_test.with_suggested_rate(
        replace(config, learning_rate=9.0), tmp_path, True
    )
    assert not RunFolder.of(result, tmp_path).path.exists()
    [path] = (tmp_path / "cifar10net").iterdir()
    path.write_text(json.dumps({"learning_rate": 0.5}))
    assert lr_range_test.with_suggested_rate(config, tmp_path, quiet=True).learning_rate == 0.5


@pytest.mark.parametrize("suffix", [".txt", ".yaml"])
def test_learning_rate_find_is_rejected_in_sets_and_grids(
    command: RunCommand, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"hyperparameters_1{suffix}"
    if suffix == ".txt":
        path.write_text("1 50 cifar10net step True find 0 0.9\n")
        words: tuple[object, ...] = ("work", 1, "--sets", tmp_path)
    else:
        path.write_text("learning_rate: [0.1, find]\n")
        words = ("generate", "--grid", path, "--dry-run")
    done = command("python", "-m", "src.sweep", *words, check=2)
    assert "learning_rate 'find'" in done.stderr
    assert "src/main.py" in done.stderr
    assert done.stderr.count("\n") == 1
