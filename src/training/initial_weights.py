"""Initial weights of a run: random, pretrained, or those of another run."""

import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from src import models
from src.common.errors import UserError
from src.config import PRETRAINED, RunConfig
from src.data.spec import DataSpec
from src.models.classifier import Classifier
from src.models.state_dicts import read_state

NONE = "none"


def reinitialize(model: nn.Module, config: RunConfig) -> None:
    """Reinitialise the weights if the config asks for it, from torch's current random state.

    kaiming_normal: He et al. 2015, https://arxiv.org/abs/1502.01852, for ReLU, by fan-in.
    """
    if config.initialization == "kaiming_normal":
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def load_initial_weights(model: Classifier, config: RunConfig) -> None:
    """Load the weights that the config names, and freeze a pretrained backbone.

    Raises UserError if they cannot be had or do not fit.
    """
    if config.parent_weights != NONE:
        _load(
            model, read_state(Path(config.parent_weights)), f"--continue {config.parent_weights!r}"
        )
    elif has_pretrained(config):
        state = {k: v for k, v in pretrained(config.weights).items() if not k.startswith("fc.")}
        _load(model.backbone, state, f"--weights {config.weights!r}")
    if is_frozen(config):
        model.backbone.requires_grad_(False)


def check_initial_weights(config: RunConfig) -> None:
    """Raise UserError if weights that the config names cannot be had."""
    if (config.parent == NONE) != (config.parent_weights == NONE):
        raise UserError("--parent, --parent_weights: expected both or none; --continue sets them")
    if config.parent_weights != NONE:
        read_state(Path(config.parent_weights))
    elif has_pretrained(config):
        pretrained(config.weights)


def check_model(config: RunConfig, data: DataSpec) -> None:
    """Raise UserError if the model of a run cannot be built for its data, or its weights not fit.

    No memory is allocated for an architecture of this project; others may need real tensors. A bug
    in its code raises nothing here: it is the failure of the run, which training records.
    """
    place = "cpu" if config.is_external_model else "meta"
    try:
        with torch.random.fork_rng([]), torch.device(place):
            model = models.build(config, data)
    except Exception as error:
        if isinstance(error, UserError):
            raise
        return
    with warnings.catch_warnings(action="ignore"):  # meta tensors take no values
        load_initial_weights(model, config)


def has_pretrained(config: RunConfig) -> bool:
    """Whether the backbone starts with weights trained on another data set."""
    return config.model_type in PRETRAINED and config.weights != NONE


def is_frozen(config: RunConfig) -> bool:
    """Whether only the last layer is trained."""
    return has_pretrained(config) and config.freeze_backbone


@cache
def pretrained(source: str) -> Mapping[str, Tensor]:
    """torchvision's ResNet-18 of ImageNet ('imagenet'), or the state dict in a file.

    Raises UserError if it is not there, and cannot be downloaded or read.
    """
    if source != "imagenet":
        return read_state(Path(source))
    from torchvision.models import ResNet18_Weights

    weights = ResNet18_Weights.IMAGENET1K_V1
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except (
        OSError,
        RuntimeError,
    ) as error:  # OSError without a network, RuntimeError for a wrong hash
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"--weights imagenet: {Path(weights.url).name} is not in {folder} and could not be "
            f"downloaded ({error}); expected it there, a file with --weights FILE, "
            "or --weights none to train from scratch"
        ) from None
    return state


def _load(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).split("\n")[1].strip()
        raise UserError(f"{source}: the weights do not fit the model: {first[:300]}") from None
