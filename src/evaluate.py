"""Any saved checkpoint on labelled images: python -m src.evaluate --model PATH

`python -m src.evaluate export RUN --out FILE` is in src/export.py.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.cli.arguments import Parser, positive_int, seed
from src.cli.config_flags import add_flags_of, from_flags, given_settings
from src.cli.entry_point import run_main
from src.common import files
from src.common.data_names import SPLITS
from src.common.errors import ExitStatus, UserError
from src.common.model_source import code_of, trust_model
from src.common.paths import CONFIG, REPORT_DIR, shown
from src.config import MODEL_OPTIONS

if TYPE_CHECKING:
    from src.data.evaluation_images import LabelledImages
    from src.evaluation_report import EvaluationReport
    from src.runs.restore import SavedModel
    from src.training.evaluation import Evaluation

_ELSEWHERE = ("model_type", *MODEL_OPTIONS, "normalization", "dataset")
_TEXTS = {
    "dataset": "data set that they were trained on; NAME: your own",
    "normalization": "mean and standard deviation that they were trained with; half: 0.5 and 0.5",
}
_MAX_PICTURES = 200

_HELP = """Evaluate saved weights on test images, or on those that a run was trained on.

PATH is a run folder, a .pt file in one, or a state dict that was trained elsewhere: then
--model_type names its architecture, and layers are matched by their order and shapes. A run of
an architecture of your own needs --model_type too: its code is run only if you name it.

`python -m src.evaluate export` writes a run's model as a file that needs torch alone."""


def main(arguments: Sequence[str]) -> ExitStatus:
    """Evaluate, print the numbers, draw the pictures."""
    if arguments and arguments[0] == "export":
        from src import export

        return export.main(arguments[1:])
    parsed = _parser().parse(arguments)
    from src.evaluation_report import as_json, as_text, report_on  # torch takes seconds to import

    if parsed.batch > _MAX_PICTURES:
        raise UserError(f"--batch {parsed.batch}: expected at most {_MAX_PICTURES} pictures")
    saved = _saved(parsed)
    labelled, evaluation = _evaluate(saved, parsed)
    report = report_on(labelled, evaluation)
    print(as_json(saved, report) if parsed.json else as_text(saved, report), flush=True)
    written = _draw(saved, labelled, report, parsed)
    if not parsed.json:
        print("\n".join(shown(path) for path in written))
    return ExitStatus.DONE


def _parser() -> Parser:
    parser = Parser(prog="python -m src.evaluate", description=_HELP)
    parser.add_argument(
        "--model", type=Path, required=True, metavar="PATH", help="what to evaluate"
    )
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        "--test_path",
        metavar="DIR",
        help="test images: the folder of the data set; a folder with one subfolder of images per "
        "class, or test/ with such subfolders; an .npz file; or 'synthetic'. Of data without a "
        "test part that the run was trained on, only the images held out in training are used "
        "[the run's own test images; CIFAR10_DIR]",
    )
    images.add_argument(
        "--split",
        choices=SPLITS,
        default="test",
        help="which of the run's own images, without augmentation [test]",
    )
    parser.add_argument(
        "--batch", type=positive_int, default=8, metavar="N", help="images that are drawn [8]"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="picks these images [0]")
    parser.add_argument("--confusion", action="store_true", help="draw the confusion matrix")
    parser.add_argument(
        "--out", type=Path, default=REPORT_DIR, metavar="DIR", help="pictures [report]"
    )
    parser.add_argument("--json", action="store_true", help="the numbers as JSON on stdout")
    add_flags_of(["device"], parser, {"device": "where to evaluate; auto: a GPU if there is one"})
    group = parser.add_argument_group(
        "weights that were trained elsewhere",
        "For a run, its config.json tells these; --model_type must name code of your own.",
    )
    add_flags_of(_ELSEWHERE, group, _TEXTS, without_default=["model_type"])
    return parser


def _saved(parsed: Namespace) -> "SavedModel":
    """The weights that --model means."""
    from src.runs.restore import SavedModel, of_run

    given = given_settings(parsed)
    del given["seed"]  # of the pictures, not of a run
    if _is_of_custom_model(parsed.model) and "model_type" in given:
        trust_model(given.pop("model_type"))
    if "model_type" not in given:
        others = [f"--{name}" for name in given if name != "device"]
        if others:
            raise UserError(f"{others[0]}: only with --model_type; the run's config.json tells it")
        return of_run(parsed.model).on(given.get("device", "auto"))
    if not parsed.model.is_file():
        what = "a run folder tells its model" if parsed.model.is_dir() else "no such file"
        raise UserError(f"--model {str(parsed.model)!r}: {what}; --model_type goes with a file")
    if parsed.split != "test":
        raise UserError(f"--split {parsed.split!r}: only for a run, whose split is known")
    config = from_flags(given)
    if config.normalization == "measured":
        raise UserError(
            "--normalization 'measured': the training images of a weights file are unknown; "
            "expected imagenet, cifar10 or half"
        )
    return SavedModel(config, parsed.model)


def _is_of_custom_model(path: Path) -> bool:
    """Whether a path is a run, or weights of one, whose architecture is a person's own code."""
    values = files.read_json((path if path.is_dir() else path.parent) / CONFIG) or {}
    return code_of(str(values.get("model_type"))) is not None


def _evaluate(saved: "SavedModel", parsed: Namespace) -> "tuple[LabelledImages, Evaluation]":
    """Evaluate on the images of --split or of --test_path."""
    import torch

    from src.data.dataset import Dataset
    from src.data.device_dataset import DeviceImages, is_measured
    from src.data.evaluation_images import images_of_split, load_test
    from src.runs.restore import device_of, evaluate_saved, load_data, normalization_of
    from src.runs.run_data import spec_of

    config, test_path = saved.config, parsed.test_path
    if test_path is None:
        dataset: Dataset | None = (whole := load_data(saved))
        spec, labelled = whole.spec, images_of_split(whole, parsed.split, config)
    else:
        spec = spec_of(config, saved.result)
        measured = is_measured(config.normalization, spec.channels)
        dataset = load_data(saved) if measured else None
        trained_on = (saved.result or {}).get("data_digest")
        labelled = load_test(test_path, config.dataset, spec, trained_on)
    device = device_of(saved)
    images = DeviceImages.put(labelled.pixels, labelled.labels, device)
    indices = torch.arange(len(labelled.labels), device=device)
    normalization = normalization_of(config, spec, dataset)
    return labelled, evaluate_saved(saved, images, indices, normalization, spec)


def _draw(
    saved: "SavedModel", labelled: "LabelledImages", report: "EvaluationReport", parsed: Namespace
) -> list[Path]:
    """Write a grid of random images, and the confusion matrix if --confusion is given."""
    from src.report.charts.figure import save
    from src.report.run_analysis import confusion_matrix, mistakes
    from src.runs.restore import data_path

    count = len(report.predictions.labels)
    sample = mistakes.random_indices(parsed.batch, count, parsed.seed)
    name = parsed.test_path or data_path(saved.config)
    images = f"{report.split} images"
    accuracy = f"{report.totals.accuracy:.2%} of {count:,} {images} are right"
    accuracy += f" ({saved.config.model_name}, {saved.weights.name}; images from {name})"
    figure = mistakes.draw(
        mistakes.predicted_images(
            report.predictions, labelled.images, labelled.spec.classes, sample
        ),
        f"{saved.stem}: {len(sample)} {images}",
        f"drawn at random (seed {parsed.seed}); {accuracy}",
    )
    written = save(figure, parsed.out / f"{saved.stem}_{report.split}_images")
    if parsed.confusion:
        title = f"{saved.stem}: confusion matrix of the {images}"
        figure = confusion_matrix.draw(report.matrix, labelled.spec.classes, title, accuracy)
        written += save(figure, parsed.out / f"{saved.stem}_confusion")
    return written


if __name__ == "__main__":
    run_main(main)
