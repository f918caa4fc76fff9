"""What a model is made of: layers, output shapes, parameters, multiply-adds, memory."""

import json
import re
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from src import models
from src.cli.config_flags import from_flags
from src.common.errors import ExitStatus, UserError
from src.config import MODEL_OPTIONS
from src.report.chosen import wanted

if TYPE_CHECKING:
    from torchinfo import ModelStatistics

_COLUMNS = ("output_size", "num_params", "mult_adds")


def print_summary(parsed: Namespace) -> ExitStatus:
    """Layers, shapes, parameters and multiply-adds of a registered model, or of runs'."""
    options = {name: getattr(parsed, name) for name in MODEL_OPTIONS if hasattr(parsed, name)}
    if parsed.model and not parsed.run:
        configs = [from_flags({"model_type": parsed.model, **options})]
    elif options:
        raise UserError(f"--{next(iter(options))}: an option of a model that --model names")
    else:
        configs = [run.config for run in wanted(parsed)]
    unique = {(config.model_type, *models.options_of(config).items()): config for config in configs}
    asked = [(config.model_type, models.options_of(config)) for config in unique.values()]
    found = [(*one, statistics(*one)) for one in asked]
    if parsed.json:
        print(json.dumps([as_row(*one) for one in found], indent=2))
    else:
        print("\n\n".join(as_text(*one) for one in found))
    return ExitStatus.DONE


def statistics(name: str, options: Mapping[str, object]) -> "ModelStatistics":
    """torchinfo's statistics of a registered model, as it is published, for one image.

    Its weights are random: nothing is downloaded. Multiply-adds are those of layers; products
    between activations, as in attention, are not counted. Raises UserError for an unknown name or
    option.
    """
    import torchinfo

    model = models.create(name, **options)
    found = torchinfo.summary(
        model,
        input_size=(1, 3, 32, 32),
        col_names=_COLUMNS,
        col_width=20,
        depth=4,
        device="cpu",
        mode="eval",
        row_settings=("depth", "var_names"),
        verbose=0,
    )
    _count_tokens(found)
    return found


def _count_tokens(found: "ModelStatistics") -> None:
    """Multiply what torchinfo 1.8 counts of a layer on (1, T, F) by T: it counts one token."""
    for layer in found.summary_list:
        if layer.is_leaf_layer and len(layer.output_size) == 3:
            more = layer.macs * (layer.output_size[1] - 1)
            layer.macs += more
            found.total_mult_adds += more


def as_text(name: str, options: Mapping[str, object], found: "ModelStatistics") -> str:
    """A table for people."""
    settings = "".join(f", {option} {value}" for option, value in options.items())
    text = re.sub(r"Units\.([A-Z])[A-Z]*", r"\1", str(found))  # names of its enum, as 3.11 has them
    return f"{name}{settings}, one image (1, 3, 32, 32)\n{text}"


def as_row(name: str, options: Mapping[str, object], found: "ModelStatistics") -> dict[str, Any]:
    """The same as JSON has it. Sizes in bytes, multiply-adds of one image."""
    return {
        "model": name,
        "options": dict(options),
        "parameters": found.total_params,
        "trainable_parameters": found.trainable_params,
        "multiply_adds": found.total_mult_adds,
        "input_bytes": found.total_input,
        "activation_bytes": found.total_output_bytes,
        "parameter_bytes": found.total_param_bytes,
        "layers": [
            {
                "name": layer.var_name,
                "kind": layer.class_name,
                "depth": layer.depth,
                "output_shape": list(layer.output_size),
                "parameters": layer.num_params,
                "multiply_adds": layer.macs,
            }
            for layer in found.summary_list
        ],
    }
