"""Layers, output shapes, parameters, multiply-adds and memory of a model, by torchinfo."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from src.data.spec import CIFAR10, DataSpec
from src.models.classifier import Classifier

if TYPE_CHECKING:
    from torchinfo import ModelStatistics

_COLUMNS = ("output_size", "num_params", "mult_adds")


def summarize(model: Classifier, data: DataSpec = CIFAR10) -> "ModelStatistics":
    """torchinfo's statistics of a model for one image of its data.

    Multiply-adds are those of layers; products between activations, as in attention, are not
    counted.
    """
    import torchinfo

    statistics = torchinfo.summary(
        model,
        input_size=(1, *data.shape),
        col_names=_COLUMNS,
        col_width=20,
        depth=4,
        device="cpu",
        mode="eval",
        row_settings=("depth", "var_names"),
        verbose=0,
    )
    _count_all_tokens(statistics)
    return statistics


def _count_all_tokens(statistics: "ModelStatistics") -> None:
    """Multiply the multiply-adds of layers on (1, T, F) by T: torchinfo 1.8 counts one token."""
    for layer in statistics.summary_list:
        if layer.is_leaf_layer and len(layer.output_size) == 3:
            uncounted = layer.macs * (layer.output_size[1] - 1)
            layer.macs += uncounted
            statistics.total_mult_adds += uncounted


def as_text(name: str, options: Mapping[str, object], statistics: "ModelStatistics") -> str:
    """The statistics as a table."""
    settings = "".join(f", {option} {value}" for option, value in options.items())
    # from Python 3.11 on, members of torchinfo's enum of units are written as `Units.MEGABYTES`
    text = re.sub(r"Units\.([A-Z])[A-Z]*", r"\1", str(statistics))
    return f"{name}{settings}, one image (1, 3, 32, 32)\n{text}"


def as_json(
    name: str, options: Mapping[str, object], statistics: "ModelStatistics"
) -> dict[str, Any]:
    """The statistics for JSON. Sizes in bytes, multiply-adds of one image."""
    return {
        "model": name,
        "options": dict(options),
        "parameters": statistics.total_params,
        "trainable_parameters": statistics.trainable_params,
        "multiply_adds": statistics.total_mult_adds,
        "input_bytes": statistics.total_input,
        "activation_bytes": statistics.total_output_bytes,
        "parameter_bytes": statistics.total_param_bytes,
        "layers": [
            {
                "name": layer.var_name,
                "kind": layer.class_name,
                "depth": layer.depth,
                "output_shape": list(layer.output_size),
                "parameters": layer.num_params,
                "multiply_adds": layer.macs,
            }
            for layer in statistics.summary_list
        ],
    }
