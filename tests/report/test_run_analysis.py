"""Analyses of runs compared with numpy and scikit-learn, and their commands."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from src.common.errors import UserError
from src.config import RunConfig, model_types
from src.cpu.whole_map import count_parameters
from src.data import synthetic
from src.data.spec import CLASSES
from src.models import create
from src.report.__main__ import main
from src.report.run_analysis import (
    confusion_matrix,
    learning_curves,
    mistakes,
    model_summary,
    predictions,
    tsne,
)
from src.report.run_analysis.predictions import Predictions
from src.report.run_analysis.run_selection import SelectedRun, best_runs, find_runs
from src.runs.run_folder import RunFolder, all_runs
from tests.conftest import RunCommand
from tests.report import synthetic_sweep

ExpectBadInput = Callable[..., str]


def random_predictions(count: int = 500, features: int = 8) -> Predictions:
    """Return predictions with about 50 % accuracy, and features that depend on the label."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, count)
    predicted = np.where(random.random(count) < 0.5, labels, random.integers(0, 10, count))
    confidence = random.uniform(0.2, 1, count).astype(np.float32)
    probabilities = np.repeat((1 - confidence[:, None]) / 9, 10, axis=1)
    probabilities[np.arange(count), predicted] = confidence
    noise = random.normal(size=(count, features)) / 4
    class_features = (np.eye(10, features)[labels] + noise).astype(np.float32)
    return Predictions(labels, predicted, probabilities.astype(np.float32), class_features)


def test_confusion_matrix_matches_scikit_learn() -> None:
    found = random_predictions()
    matrix = confusion_matrix.confusion_matrix(found)
    for true in range(10):
        for guess in range(10):
            both = (found.labels == true) & (found.predictions == guess)
            assert matrix[true, guess] == both.sum()
    reference = metrics.confusion_matrix(found.labels, found.predictions, labels=range(10))
    assert np.array_equal(matrix, reference)
    results = confusion_matrix.class_results(matrix, CLASSES)
    recall, support = metrics.precision_recall_fscore_support(found.labels, found.predictions)[1::2]
    assert [one.accuracy for one in results] == pytest.approx(recall)
    assert [one.images for one in results] == support.tolist()
    for label, one in enumerate(results):
        of_class = found.predictions[found.labels == label]
        assert (one.name, one.images) == (CLASSES[label], len(of_class))
        assert one.correct == matrix[label, label]
        assert one.accuracy == pytest.approx(np.mean(of_class == label))
        counts = np.bincount(of_class[of_class != label], minlength=10)
        assert one.confusions[0].name == CLASSES[counts.argmax()]
        assert one.confusions[0].share == pytest.approx(counts.max() / len(of_class))
        assert sum(other.images for other in one.confusions) == counts.sum()
    worst = confusion_matrix.worst_first(results)
    assert [one.accuracy for one in worst] == sorted(one.accuracy or 0 for one in results)


def test_class_without_images_has_no_accuracy() -> None:
    matrix = np.diag([2, 1, *[0] * 8])
    results = confusion_matrix.class_results(matrix, CLASSES)
    assert results[5].accuracy is None
    assert confusion_matrix.worst_first(results)[-1].accuracy is None
    assert re.search(r"dog +0 +0 +- +-", confusion_matrix.as_text(results, 3))


def test_names_of_classes_are_shown_as_they_are() -> None:
    names = [*CLASSES[:8], "[red]", "[/data] :cat:"]
    text = confusion_matrix.as_text(confusion_matrix.class_results(np.eye(10, dtype=int), names), 3)
    assert all(name in text for name in names)


def test_mistakes_are_sorted_by_confidence() -> None:
    found = random_predictions()
    places = mistakes.most_confident_mistakes(found, 20)
    wrong = np.flatnonzero(found.labels != found.predictions)
    best = sorted(wrong, key=lambda place: -found.probabilities[place].max())[:20]
    assert places.tolist() == best
    tiles = mistakes.predicted_images(found, np.zeros((500, 32, 32, 3), np.uint8), CLASSES, places)
    assert not any(tile.is_correct for tile in tiles)
    assert tiles[0].confidence == pytest.approx(found.probabilities[wrong].max())
    assert "\N{BALLOT X} true: " in tiles[0].title


def test_random_indices_are_unique_and_reproducible() -> None:
    places = mistakes.random_indices(8, 100, seed=0)
    assert len(set(places)) == 8
    assert places.tolist() == mistakes.random_indices(8, 100, seed=0).tolist()
    assert sorted(mistakes.random_indices(8, 5, seed=0)) == [0, 1, 2, 3, 4]


def test_balanced_sample_has_equal_class_counts() -> None:
    labels = np.repeat(np.arange(10), [3, *[100] * 9])
    places = tsne.balanced_sample(labels, 50, seed=0)
    counts = np.bincount(labels[places])
    assert counts[0] == 3
    assert counts.sum() == 50
    assert set(counts[1:]) <= {5, 6}
    assert places.tolist() == sorted(set(places))
    assert len(tsne.balanced_sample(labels, 5000, seed=0)) == len(labels)
    assert places.tolist() != tsne.balanced_sample(labels, 50, seed=1).tolist()


def test_tsne_is_reproducible_and_separates_classes() -> None:
    found = random_predictions(200, features=60)
    embedding = tsne.embed(found, seed=0)
    assert embedding.perplexity == 30
    assert np.array_equal(embedding.points, tsne.embed(found, seed=0).points)
    distances = np.linalg.norm(embedding.points[:, None] - embedding.points, axis=2)
    np.fill_diagonal(distances, np.inf)
    neighbours = embedding.labels[distances.argmin(axis=1)]
    assert np.mean(neighbours == embedding.labels) > 0.8
    assert tsne.embed(found.take(np.arange(31)), seed=0).perplexity == 10


@pytest.mark.parametrize("features", [np.zeros((20, 4)), np.full((20, 4), np.inf), np.eye(4)])
def test_tsne_of_degenerate_features_raises_user_error(features: Any) -> None:
    count = len(features)
    none = np.zeros(count, np.int64)
    with pytest.raises(UserError, match="t-SNE"):
        tsne.embed(Predictions(none, none, np.ones((count, 10), np.float32), features), seed=0)


def run_with(**settings: Any) -> SelectedRun:
    return SelectedRun(RunFolder(Path("x")), RunConfig(base_dataset_path="synthetic", **settings))


def test_learning_curves_skip_missing_and_nan_values() -> None:
    rows: list[dict[str, Any]] = [
        {"epoch": epoch, "train_loss": 2 / epoch, "train_accuracy": epoch / 10}
        | ({"val_loss": 1 / epoch, "val_accuracy": value} if value else {})
        for epoch, value in enumerate([None, 0.5, None, 0.7, None, 0.7], 1)
    ]
    rows[0]["train_loss"] = float("nan")
    found = learning_curves.learning_curves([(run_with(), rows)])
    curve = found.runs[0]
    assert curve.points["val", "accuracy"] == [(2, 0.5), (4, 0.7), (6, 0.7)]
    assert curve.points["train", "loss"] == [(n, 2 / n) for n in range(2, 7)]
    assert curve.best_epoch == 4
    assert found.data_name == "synthetic data"
    assert learning_curves.learning_curves([(run_with(), rows[:1])]).runs[0].best_epoch is None


def test_describe_configs_separates_shared_and_differing_settings() -> None:
    def described(*configs: RunConfig) -> tuple[str, list[str]]:
        shared, labels = learning_curves.describe_with_models(configs)
        return with_plain_spaces(shared), [with_plain_spaces(label) for label in labels]

    def with_plain_spaces(text: str) -> str:
        return text.replace("\N{NO-BREAK SPACE}", " ")

    one = RunConfig(scheduler="step", dropout=None, model_type="cnn")
    other = RunConfig(scheduler="step", dropout=0.5, model_type="cnn", learning_rate=0.01)
    shared, labels = described(one, other)
    assert shared == "cnn, not augmented, step, wd 0.0001, gamma 0.99"
    assert labels == ["lr 0.0001", "lr 0.01, dropout 0.5"]
    shared, labels = described(one, RunConfig(scheduler="cosine", model_type="vit", nesterov=True))
    assert shared == "not augmented, lr 0.0001, wd 0.0001"
    assert labels == ["cnn, step, gamma 0.99", "vit, cosine"]


def test_find_runs_accepts_path_name_id_and_prefix(trained: Path) -> None:
    for run in all_runs(trained):
        run_id = run.path.name[-10:]
        for word in (str(run.path), run.path.name, run_id, run_id[:6]):
            assert [one.folder.path for one in find_runs([word], trained)] == [run.path]
    tinyvgg = next(all_runs(trained, "tinyvgg"))
    name = tinyvgg.path.name[:-11]
    assert [one.title for one in find_runs([name, name], trained)] == [
        f"tinyvgg {tinyvgg.path.name[-10:]}"
    ]


def test_best_runs_selects_highest_accuracy_per_model(trained: Path) -> None:
    accuracy = {run.path: (run.result() or {})["best_val_accuracy"] for run in all_runs(trained)}
    best = best_runs(trained, None, None, 1)
    assert {run.config.model_type for run in best} == {"cifar10net", "tinyvgg"}
    for run in best:
        rivals = [accuracy[other.path] for other in all_runs(trained, run.config.model_type)]
        assert accuracy[run.folder.path] == max(rivals)
    assert len(best_runs(trained, None, None, 5)) == 3
    assert len(best_runs(trained, "cifar10net", "test_accuracy", 2)) == 2


@pytest.mark.parametrize("name", ["resnet", "vit", "cifar10net_6", "resnet9"])
def test_model_summary_mult_adds_match_flop_counter(name: str) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        create(name).eval()(torch.zeros(1, 3, 32, 32))
    total = model_summary.summarize(create(name)).total_mult_adds
    assert total == pytest.approx(counter.get_total_flops() / 2, rel=0.01)


@pytest.mark.parametrize("name", [name for name in model_types() if name != "vit"])
def test_model_summary_counts_all_parameters(name: str) -> None:
    found = model_summary.summarize(create(name))
    assert found.total_params == count_parameters(create(name))
    assert f"Total params: {found.total_params:,}" in model_summary.as_text(name, {}, found)


def test_predictions_file_matches_result(trained: Path) -> None:
    for run in all_runs(trained):
        found, result = predictions.read(run), run.result() or {}
        assert found.is_correct.mean() == pytest.approx(result["test_accuracy_best_val_acc"])
        assert found.probabilities.sum(axis=1) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("text", ["{", '{"epoch": 1}\n3\n', '{"loss": 1}\n'])
def test_damaged_history_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """And the curves of the other run are drawn."""
    cells = synthetic_sweep.configs()[:2]
    synthetic_sweep.make(tmp_path, np.arange(100) % 10, cells)
    selected = [SelectedRun.at(path) for path in sorted(tmp_path.glob("*/*"))]
    damaged = selected[0].folder.path / "history.jsonl"
    damaged.write_text(text)
    learning_curves.figure(selected)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"left out: {damaged}: damaged: ")
    assert line.count(str(damaged)) == 1


@pytest.mark.parametrize("damage", ["cut", "text", "labels", "no features"])
def test_damaged_predictions_give_one_line_error(
    trained: Path, tmp_path: Path, damage: str
) -> None:
    run = next(all_runs(trained))
    folder = RunFolder(shutil.copytree(run.path, tmp_path / "x"))
    path = folder.path / "predictions.npz"
    arrays = dict(np.load(path))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("nothing")
    elif damage == "labels":
        np.savez(path, **(arrays | {"labels": arrays["labels"] + 10}))
    else:
        np.savez(path, **{name: arrays[name] for name in arrays if name != "features"})
    with pytest.raises(UserError, match=r"not the predictions of a run: .+") as caught:
        predictions.read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("curves -k 2", {"curves"}),
        ("confusion", {"{cifar10net}_confusion", "{tinyvgg}_confusion"}),
        ("images --model cifar10net -k 6", {"{cifar10net}_images"}),
        ("tsne --model tinyvgg --images 60", {"{tinyvgg}_tsne"}),
        ("tsne --model cifar10net --images 60 --sample train", {"{cifar10net}_tsne_train"}),
    ],
)
def test_analysis_charts_are_reproducible(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    names: set[str],
) -> None:
    best = {run.config.model_type: run.stem for run in best_runs(trained, None, None, 1)}
    expected_names = {f"{name.format(**best)}.{kind}" for name in names for kind in ("png", "svg")}
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        main([*words.split(), "--runs", str(trained), "--out", str(folder)])
        assert {path.name for path in folder.iterdir()} == expected_names
        assert len(capsys.readouterr().out.splitlines()) == len(expected_names)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]


def test_analysis_charts_name_run_and_data(trained: Path, tmp_path: Path) -> None:
    run = next(all_runs(trained, "cifar10net"))
    words = ["--run", run.path.name[-10:], "--runs", str(trained), "--out", str(tmp_path)]
    main(["confusion", *words])
    main(["tsne", *words, "--images", "50"])
    texts = [path.read_text() for path in tmp_path.glob("*.svg")]
    for text in texts:
        assert run.path.name[-10:] in text
        assert "test images of synthetic data" in text
        assert all(name in text for name in CLASSES)
    assert f"{(run.result() or {})['test_accuracy_best_val_acc']:.2%}" in texts[0] + texts[1]


def test_recomputed_features_match_stored_predictions(trained: Path, tmp_path: Path) -> None:
    """Features of the test images computed from saved weights equal those in predictions.npz."""
    import torch

    from src.data.device_dataset import DeviceImages
    from src.runs.restore import evaluate_saved, normalization_of, of_run

    for run in all_runs(trained):
        saved, dataset = of_run(run.path).on("cpu"), synthetic.generate()
        images = DeviceImages.put(dataset.test_pixels, dataset.test_labels, torch.device("cpu"))
        table = normalization_of(saved.config, dataset.spec, dataset)
        evaluation = evaluate_saved(saved, images, torch.arange(300), table, dataset.spec)
        found = predictions.from_evaluation(dataset.test_labels[:300], evaluation)
        stored = predictions.read(run)
        assert np.array_equal(found.predictions, stored.predictions)
        assert np.array_equal(found.features.astype(np.float16), stored.features.astype(np.float16))


def test_classes_and_summary_commands(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["classes", "--runs", str(trained), "-k", "1", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert {row["model"] for row in rows} == {"cifar10net", "tinyvgg"}
    assert all(len(one["most_often_taken_for"]) <= 1 for row in rows for one in row["classes"])
    main(["classes", "--runs", str(trained), "--model", "tinyvgg"])
    assert len(capsys.readouterr().out.splitlines()) == 12
    main(["summary", "--runs", str(trained), "--model", "tinyvgg", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["parameters"] == 153_546
    main(["summary", "--runs", str(trained), "--run", next(all_runs(trained, "tinyvgg")).path.name])
    assert "hidden_units 4" in capsys.readouterr().out
    main(["summary", "--model", "tinyvgg", "--batch_norm", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["parameters"] == 154_058


def test_runs_without_predictions_are_left_out_with_message(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    expect_bad_input: ExpectBadInput,
) -> None:
    runs_dir = shutil.copytree(trained, tmp_path / "runs")
    tinyvgg = next(all_runs(runs_dir, "tinyvgg"))
    (tinyvgg.path / "predictions.npz").unlink()
    words = ["classes", "--runs", str(runs_dir)]
    main(words)
    captured = capsys.readouterr()
    assert "cifar10net" in captured.out
    assert "tinyvgg" not in captured.out
    assert re.fullmatch(r"left out: .*tinyvgg.*: no predictions.npz .*\n", captured.err)
    main([*words, "-q"])
    assert not capsys.readouterr().err
    assert "no predictions.npz" in expect_bad_input(main, *words, "--model", "tinyvgg")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("curves --run nowhere", "no such run under"),
        ("curves --run abc", "no such run under"),
        ("curves --run NAME", "2 runs go by that"),
        ("curves --run NAME --model cnn", "--run has chosen"),
        ("curves --csv x.csv", "--csv: `curves` has no such option"),
        ("page --run x", "--run: `page` has no such option, but `curves`, `confusion`"),
        ("--images 7", "--images: `page` has no such option, but `tsne`"),
        ("confusion --json", "--json: only `top-k table`, `classes`, `summary` print"),
        ("confusion --model lenet", "expected one of"),
        ("tsne --images 3", "expected at least 5"),
        ("tsne --seed -1", "from 0 to"),
        ("images --model tinyvgg -d EMPTY", "no data_batch_1"),
        ("summary --model lenet", "expected one of resnet"),
        ("summary --model vgg6 --fc1 4", "no such option"),
        ("summary --fc1 4", "--fc1: an option of a model"),
        ("confusions", "unknown report 'confusions'"),
    ],
)
def test_bad_input_gives_one_line_error(
    expect_bad_input: ExpectBadInput, trained: Path, tmp_path: Path, words: str, message: str
) -> None:
    name = next(all_runs(trained, "cifar10net")).path.name[:-11]
    arguments = words.replace("NAME", name).replace("EMPTY", str(tmp_path)).split()
    line = expect_bad_input(main, *arguments, "--runs", trained, "--out", tmp_path / "o")
    assert message in line
    assert not (tmp_path / "o").exists()


def test_data_set_with_other_labels_is_rejected(
    expect_bad_input: ExpectBadInput, trained: Path, batches: Path, tmp_path: Path
) -> None:
    line = expect_bad_input(
        main, "images", "-d", batches, "--runs", trained, "--out", tmp_path / "o"
    )
    assert "its labels are not those of the test images" in line


def test_curves_command(command: RunCommand, trained: Path, tmp_path: Path) -> None:
    report = ("python", "-m", "src.report")
    done = command(*report, "curves", "--runs", trained, "--out", tmp_path)
    assert done.stdout.splitlines()[-1].endswith("curves.svg")
