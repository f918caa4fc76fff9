"""Commands that analyse single runs: select runs, compute, draw or print."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from src import models
from src.cli.config_flags import from_flags
from src.common.errors import ExitStatus, UserError
from src.common.json_text import json_text
from src.common.paths import REPORT_DIR, shown
from src.config import RunConfig
from src.data.spec import CIFAR10, DataSpec
from src.data.split import split
from src.report.run_analysis import confusion_matrix, model_summary, predictions
from src.report.run_analysis.predictions import Predictions
from src.report.run_analysis.run_selection import RunSelection, SelectedRun, read_each

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")

CURVES, MISTAKES, CONFUSIONS = 5, 20, 3
"""Defaults of -k: runs of each architecture, mistakes of a run, confusions of a class."""
TSNE_IMAGES = 2000


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions:
    """Which runs to analyse, and where to write."""

    selection: RunSelection = field(default_factory=RunSelection)
    out: Path = REPORT_DIR
    k: int | None = None
    """None: the default of the command."""
    data_path: str | None = None
    """The data folder. None: that of each run."""
    quiet: bool = False

    def read_each(self, read: Callable[[SelectedRun], T]) -> Iterator[tuple[SelectedRun, T]]:
        """The selected runs, each with what `read` returns."""
        return read_each(self.selection.runs(), read, quiet=self.quiet)

    def data_path_of(self, run: SelectedRun) -> str:
        """The data folder to read a run's images from."""
        from src.runs.restore import data_path

        return self.data_path or str(data_path(run.config))


@dataclass(frozen=True, kw_only=True)
class TSNEOptions:
    """Which images t-SNE embeds."""

    training: bool = False
    """Training images, sent through the run's weights; else test images."""
    images: int = TSNE_IMAGES
    """How many, equally many of each class."""
    seed: int = 0
    device: str = "auto"


def curves(options: AnalysisOptions) -> ExitStatus:
    """Loss and accuracy over the epochs of runs, side by side, in one chart."""
    from src.report.run_analysis import learning_curves

    runs = options.selection.runs(options.k or CURVES)
    return _save(learning_curves.figure(runs, quiet=options.quiet), options.out / "curves")


def confusion(options: AnalysisOptions) -> ExitStatus:
    """The confusion matrix of each run as a chart."""
    for run, predicted in options.read_each(_read_predictions):
        _save(confusion_matrix.figure(run, predicted), options.out / f"{run.stem}_confusion")
    return ExitStatus.DONE


def classes(options: AnalysisOptions, *, as_json: bool) -> ExitStatus:
    """Print the classes of each run, the worst first, and what they are taken for."""
    rows = []
    limit = options.k or CONFUSIONS
    for run, predicted in options.read_each(_read_predictions):
        matrix = confusion_matrix.confusion_matrix(predicted)
        results = confusion_matrix.class_results(matrix, run.data.classes)
        results = confusion_matrix.worst_first(results)
        rows.append(
            {
                "model": run.config.model_name,
                "run_id": run.config.id,
                "images": len(predicted.labels),
                "accuracy": float(predicted.is_correct.mean()),
                "classes": [confusion_matrix.as_json(result, limit) for result in results],
            }
        )
        if not as_json:
            separator = "\n" if len(rows) > 1 else ""
            print(f"{separator}{run.title}: {predicted.summary(run.data_name)}")
            print(confusion_matrix.as_text(results, limit))
    if as_json:
        print(json_text(rows))
    return ExitStatus.DONE


def images(options: AnalysisOptions) -> ExitStatus:
    """The most confident mistakes of each run as a chart."""
    from src.report.run_analysis import mistakes

    for run, predicted in options.read_each(_read_predictions):
        count, path = options.k or MISTAKES, options.data_path_of(run)
        _save(mistakes.figure(run, predicted, count, path), options.out / f"{run.stem}_images")
    return ExitStatus.DONE


def tsne(options: AnalysisOptions, of_tsne: TSNEOptions) -> ExitStatus:
    """t-SNE of the penultimate features of images under each run as a chart."""
    from src.report.run_analysis import tsne

    def read_sample(run: SelectedRun) -> Predictions:
        if of_tsne.training:
            predictions = _predict_training_images(run, options.data_path_of(run), of_tsne)
        else:
            predictions = _read_predictions(run)
        if not predictions.features.shape[1]:
            raise UserError(f"{run.title}: {tsne.NO_FEATURES}")
        return predictions

    for run, predicted in options.read_each(read_sample):
        if not of_tsne.training:
            sample = tsne.balanced_sample(predicted.labels, of_tsne.images, of_tsne.seed)
            predicted = predicted.take(sample)
        embedding = tsne.embed(predicted, of_tsne.seed)
        part, suffix = ("training", "_train") if of_tsne.training else ("test", "")
        figure = tsne.figure(run, embedding, part, of_tsne.seed)
        _save(figure, options.out / f"{run.stem}_tsne{suffix}")
    return ExitStatus.DONE


def summary(
    selection: RunSelection, model_options: Mapping[str, object], *, as_json: bool
) -> ExitStatus:
    """Print layers, shapes, parameters and multiply-adds of a model, or of the models of runs.

    selection: a model without runs stands for the registered model, with `model_options`. Raises
    UserError if there are options, and no such model.
    """
    left_out: list[str] = []
    if selection.model and not selection.names:
        models_of_data = [(from_flags({"model_type": selection.model, **model_options}), CIFAR10)]
    elif model_options:
        raise UserError(f"--{next(iter(model_options))}: an option of a model that --model names")
    else:
        models_of_data = list(_read_data(selection.runs(), left_out))
    distinct = {
        (config.model_type, config.model_digest, data, *models.options_of(config).items()): (
            config,
            data,
        )
        for config, data in models_of_data
    }
    summaries = []
    for config, data in distinct.values():
        try:
            statistics = model_summary.summarize(models.build(config, data), data)
        except UserError as error:
            left_out.append(str(error))
            continue
        summaries.append((config.model_name, models.options_of(config), statistics))
    if not summaries:
        raise UserError("; ".join(left_out))
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    if as_json:
        print(json_text([model_summary.as_json(*arguments) for arguments in summaries]))
    else:
        print("\n\n".join(model_summary.as_text(*arguments) for arguments in summaries))
    return ExitStatus.DONE


def _read_predictions(run: SelectedRun) -> Predictions:
    return predictions.read(run.folder)


def _predict_training_images(run: SelectedRun, path: str, of_tsne: TSNEOptions) -> Predictions:
    """The predictions of a run's weights for a balanced sample of its training images."""
    import torch

    from src.data.device_dataset import DeviceImages
    from src.report.run_analysis.tsne import balanced_sample
    from src.runs.restore import device_of, evaluate_saved, load_data, normalization_of, of_run

    saved = of_run(run.folder.path).on(of_tsne.device)
    dataset = load_data(saved, path)
    training, _ = split(dataset, run.config)
    sample = balanced_sample(dataset.train_labels[training], of_tsne.images, of_tsne.seed)
    indices = training[sample]
    labels, device = dataset.train_labels[indices], device_of(saved)
    device_images = DeviceImages.put(dataset.train_pixels[indices], labels, device)
    all_images = torch.arange(len(indices), device=device)
    normalization = normalization_of(run.config, dataset.spec, dataset)
    evaluated = evaluate_saved(saved, device_images, all_images, normalization, dataset.spec)
    return predictions.from_evaluation(labels, evaluated)


def _read_data(
    runs: Sequence[SelectedRun], left_out: list[str]
) -> Iterator[tuple[RunConfig, DataSpec]]:
    """The settings and the data of each run. A line for each whose data is unknown: `left_out`."""
    for run in runs:
        try:
            yield run.config, run.data
        except UserError as error:
            left_out.append(str(error))


def _save(figure: "Figure", path: Path) -> ExitStatus:
    from src.report.charts.figure import save

    for written in save(figure, path):
        print(shown(written))
    return ExitStatus.DONE
