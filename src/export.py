"""A trained model as a file that needs torch alone: python -m src.evaluate export RUN --out FILE"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.cli.arguments import Parser
from src.cli.common_options import add_model_option, add_runs_option
from src.common import files
from src.common.errors import ExitStatus, UserError
from src.common.model_source import trust_model
from src.common.paths import shown
from src.common.result_values import BEST_VAL_ACCURACY, TEST_ACCURACY
from src.comparison.accuracy_interval import seeds_interval
from src.comparison.configurations import Configuration, Replicate, read_configurations, tests
from src.comparison.confirmation_plan import read_plan
from src.config import PRETRAINED
from src.data.device_dataset import is_measured
from src.data.spec import title_of_data
from src.report import reproduce_command
from src.report.statistics import wilson_interval
from src.report.table import TEST_IMAGES
from src.runs.restore import SavedModel, load_data, normalization_of, of_run
from src.runs.run_data import spec_of
from src.runs.run_lookup import find

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_SUFFIX = ".pt2"
_EXAMPLES = 2  # images that the program is traced with; their number stays free


def main(arguments: Sequence[str]) -> ExitStatus:
    """Write the program and its model card, and print their paths."""
    parsed = _parser().parse(arguments)
    if parsed.out.suffix != _SUFFIX:
        raise UserError(f"--out {str(parsed.out)!r}: expected a name that ends in {_SUFFIX}")
    if not parsed.out.parent.is_dir():
        raise UserError(f"--out {str(parsed.out)!r}: no such folder")
    if "model_type" in parsed:
        trust_model(parsed.model_type)
    saved = of_run(_run_folder(parsed.run, parsed.runs))
    if saved.result is None:
        raise UserError(f"RUN {parsed.run!r}: not finished; expected a run that is done")
    card = model_card(saved, parsed.out.name, _reported_runs_of(saved, parsed.runs))
    content = _as_bytes(program(saved), saved)
    files.write(parsed.out, lambda file: file.write(content))
    files.write_text(parsed.out.with_suffix(".md"), card)
    print(f"{shown(parsed.out)}\n{shown(parsed.out.with_suffix('.md'))}")
    return ExitStatus.DONE


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.evaluate export",
        description="Write a run's best weights, with the normalisation of its images, as a "
        "program of torch.export that loads without this project, and a model card beside it.",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a run's folder, its name, or at least 4 digits of its id; or the config_id of a "
        "configuration, for the best of its runs by validation accuracy",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help=f"name that ends in {_SUFFIX}"
    )
    add_runs_option(parser)
    add_model_option(parser)
    return parser


def _run_folder(word: str, runs_dir: Path) -> Path:
    """The folder of a run, or of the best reported run of a configuration.

    Raises UserError if there is none or more than one.
    """
    try:
        return find(word, runs_dir).path
    except UserError:
        matching = _configurations(word, runs_dir)
        if len(matching) != 1:
            raise
    runs = _reported_runs(matching[0], runs_dir)
    if not runs:
        raise UserError(f"RUN {word!r}: no run of this configuration is finished")
    return max(runs, key=lambda run: run.validation or 0.0).folder.path


def _configurations(word: str, runs_dir: Path) -> list[Configuration]:
    """The configurations whose id begins with a word of at least 4 digits."""
    if not re.fullmatch("[0-9a-f]{4,10}", word) or not runs_dir.is_dir():
        return []
    configurations = read_configurations(runs_dir).values()
    return [each for each in configurations if each.id.startswith(word)]


def _reported_runs(configuration: Configuration, runs_dir: Path) -> list[Replicate]:
    """The runs that its accuracy is reported from: final ones if there are any, or all."""
    plan = read_plan(runs_dir, configuration.model)
    return configuration.done(plan.final if plan else ()) or configuration.done()


def program(saved: SavedModel) -> "ExportedProgram":
    """The model with its preprocessing: uint8 images (N, C, S, S), RGB or grey, to logits (N, K).

    Raises UserError if the data is not known, or its statistics were measured and it is not here.
    """
    import torch

    from src import models
    from src.models.preprocessed import Preprocessed
    from src.models.state_dicts import load_into, read_state

    config = saved.config
    spec = spec_of(config, saved.result)
    measured = is_measured(config.normalization, spec.channels)
    dataset = load_data(saved) if measured else None
    if config.model_type in PRETRAINED:
        config = replace(config, weights="none")  # which would be downloaded, and overwritten here
    model = models.build(config, spec)
    load_into(model, read_state(saved.weights), f"{saved.weights}: not of {config.model_name}")

    whole = Preprocessed(normalization_of(config, spec, dataset), model).eval()
    example = torch.zeros(_EXAMPLES, *spec.shape, dtype=torch.uint8)
    batch = {"images": {0: torch.export.Dim("batch", min=1, max=2**16)}}
    with torch.no_grad():
        return torch.export.export(whole, (example,), dynamic_shapes=batch)


def _as_bytes(exported: "ExportedProgram", saved: SavedModel) -> bytes:
    """The program as the content of a file, with the names of the classes and the config."""
    import torch

    content = BytesIO()
    classes = spec_of(saved.config, saved.result).classes
    extra = {"classes.json": json.dumps(classes), "config.json": json.dumps(saved.config.stored())}
    torch.export.save(exported, content, extra_files=extra)
    return content.getvalue()


def _reported_runs_of(saved: SavedModel, runs_dir: Path) -> tuple[Sequence[Replicate], bool]:
    """The runs that the accuracy of its configuration is reported from, and if they are final."""
    configurations = read_configurations(runs_dir, saved.config.model_name)
    configuration = configurations.get(saved.config.config_id)
    if not configuration:
        return (), False
    plan, runs = read_plan(runs_dir, configuration.model), _reported_runs(configuration, runs_dir)
    return runs, plan is not None and all(run.config.seed in plan.final for run in runs)


def model_card(saved: SavedModel, name: str, reported: tuple[Sequence[Replicate], bool]) -> str:
    """What a user of the file needs to know, as Markdown.

    reported: the runs of its configuration, and whether their seeds had no part in any choice.
    """
    config, result = saved.config, saved.result or {}
    spec = spec_of(config, result)
    shape, kind = ", ".join(map(str, spec.shape)), "grey" if spec.channels == 1 else "RGB"
    versions = ", ".join(f"{key} {value}" for key, value in result.get("versions", {}).items())
    return f"""# {config.model_name} on {title_of_data(spec.name)}

Input: a batch of {kind} images, uint8, (N, {shape}); the normalisation is part of the program.
Output: logits (N, {len(spec.classes)}), in the order {", ".join(spec.classes)}.

```python
import torch

model = torch.export.load("{name}").module()
images = torch.zeros(1, {shape}, dtype=torch.uint8)
classes = model(images).argmax(dim=1)
```

| | |
|---|---|
{_table(_facts(result, *reported))}
| trained with seed | {config.seed} |
| trained on | {result.get("device")}, {result.get("precision")} |
| data | {_data_in_words(result)} |
| versions | {versions} |
| commit | {result.get("git_commit")} |

Trained again by:

```bash
{reproduce_command.from_config(config)}
```

No licence is claimed for these weights.
"""


def _data_in_words(result: dict[str, Any]) -> str:
    digest = result.get("data_digest")
    return f"digest {digest} of all images and labels" if digest else "its digest is not known"


def _table(facts: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in facts)


def _facts(
    result: dict[str, Any], replicates: Sequence[Replicate], are_final: bool
) -> list[tuple[str, str]]:
    accuracy, images = result[TEST_ACCURACY], int(result.get("test_images", TEST_IMAGES))
    low, high = wilson_interval(accuracy, images)
    test = f"{accuracy:.2%} of {images:,} images (95 % interval {low:.2%} to {high:.2%})"
    facts = [
        ("validation accuracy", f"{result[BEST_VAL_ACCURACY]:.2%}"),
        ("test accuracy of these weights", test),
    ]
    accuracies = tests(replicates)
    seeds = seeds_interval(accuracies, images) if accuracies else None
    if seeds:
        mean = (
            f"{seeds.mean:.2%} over {len(accuracies)} seeds ({seeds.low:.2%} to {seeds.high:.2%})"
        )
        used = ", ".join(str(run.config.seed) for run in replicates)
        used += ", which had no part in any choice" if are_final else ""
        used += "" if are_final else "; it was chosen by some of them: the mean may be too high"
        return [*facts, ("test accuracy of the recipe", mean), ("its seeds", used)]
    return [*facts, ("test accuracy of the recipe", "one seed: how much seeds differ is not known")]
