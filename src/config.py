"""RunConfig: the one definition of a training run.

Flags, set-file lines, YAML files, run names, run ids and checks all derive from its fields.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, fields, replace
from functools import cache, cached_property
from typing import Any

from src.common import model_options, model_source
from src.common.data_names import (
    CIFAR10_PATH,
    DATA_PART,
    DATASETS,
    OTHER_SIZES,
    SYNTHETIC,
    default_dataset_path,
    group_name,
)
from src.common.errors import InvalidValue, UserError
from src.common.option_fields import checked, did_you_mean, option
from src.common.paths import MODELS_PACKAGE
from src.common.registry import registered

SEARCH = "search"  # key of a YAML file that describes a search instead of a run
SCHEDULERS = ("exponential", "step", "cosine", "onecycle", "none")
OPTIMIZERS = ("adamw", "adam", "sgd")
NORMALIZATIONS = ("imagenet", "cifar10", "half", "measured")
SPLITS = ("last_batch", "random", "stratified")
MEMORY_FORMATS = ("auto", "contiguous", "channels_last")
CONVOLUTIONS = ("auto", "direct", "winograd", "columns")
PRECISIONS = ("auto", "bfloat16", "float16", "tf32", "float32")
DEVICES = ("auto", "cpu", "cuda")
CHECKPOINTS_KEPT = ("best", "all", "none")
INITIALIZATIONS = ("default", "kaiming_normal")

PRETRAINED = ("resnet18_transfer",)
"""Architectures with pretrained weights."""

MODEL_OPTIONS = ("dropout", "hidden_units", "batch_norm", "fc1", "fc2")
"""Fields passed to the architecture if they are set."""

_MAX_MODEL_NAME = 80  # characters: it is part of the names of folders

FIND = "find"
"""In place of a learning rate: a range test chooses it."""

FIELD_GROUPS = (
    *("run", "data", "optimiser and schedule", "augmentation", "model", "arithmetic", "output"),
)
"""Headings of the fields in --help, in this order."""

CHECKPOINT_KINDS = ("best_val_acc", "best_val_loss", "terminal")

_FIRST_FIELDS = (
    *("num_epochs", "batch_size", "model_type", "scheduler", "data_augmentation"),
    *("learning_rate", "weight_decay", "gamma", "val_freq", "early_stopping_patience"),
    *("optimizer", "amsgrad", "momentum", "nesterov", "step_size", "t_max", "eta_min"),
    *("pct_start", "div_factor", "final_div_factor", "anneal_strategy"),
    *("flip", "rotation", "crop_padding", "vertical_flip"),
    *("brightness", "contrast", "saturation", "hue", "cutout"),
    *("normalization", "val_split", "val_size", "split_seed", "max_images"),
    *("dropout", "hidden_units", "batch_norm", "fc1", "fc2", "initialization"),
    *("weights", "freeze_backbone", "label_smoothing", "ema", "seed"),
    *("precision", "memory_format", "convolution", "compile", "parent"),
    *("base_dataset_path", "parent_weights", "device", "cuda_graphs"),
    *("keep_checkpoints", "checkpoint_minutes"),
)
"""Fields of the first version: they always count in names and are always written.

A field that is added later does so only where it differs from its default. Then the names of
existing cells and searches stay, and code from before the field reads what it can. None is ever
added here.
"""


def model_types() -> tuple[str, ...]:
    """The registered models, in the order of the reference grid, then by name."""
    reference = ("resnet", "cnn", "vit")
    names = registered(MODELS_PACKAGE)
    return tuple(n for n in reference if n in names) + tuple(sorted(set(names) - set(reference)))


def _per_scheduler(*names: str) -> Mapping[str, tuple[object, ...]]:
    return {"scheduler": names}


_AUGMENTED = {"data_augmentation": (True,)}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run. Raises InvalidValue naming a field, its value and what is allowed."""

    base_dataset_path: str = option(
        CIFAR10_PATH,
        "folder that is or holds cifar-10-batches-py/; downloaded if missing; 'synthetic': "
        "the built-in stand-in; CIFAR10_DIR sets the default",
        short="d",
        changes_result=False,
        group="data",
        metavar="DIR",
    )
    dataset: str = option(
        "cifar10",
        "data set in -d; NAME: your own name for a folder or .npz file; @64: images resized to "
        "64 x 64 instead of 32 x 32",
        choices=DATASETS,
        pattern=(
            rf"(?!{SYNTHETIC})[A-Za-z][A-Za-z0-9_-]{{0,63}}(@({'|'.join(map(str, OTHER_SIZES))}))?",
            f"NAME, each with or without {', '.join(f'@{size}' for size in OTHER_SIZES)}",
        ),
        group="data",
        metavar="NAME",
    )
    num_epochs: int = option(
        80,
        "epochs to train",
        short="e",
        minimum=1,
        group="run",
        metavar="EPOCHS",
    )
    batch_size: int = option(
        256,
        "images per training step",
        short="b",
        minimum=2,
        group="run",
        metavar="IMAGES",
    )
    model_type: str = option(
        "resnet",
        "architecture",
        short="m",
        choices=model_types,
        pattern=(model_source.PATTERN, model_source.IN_WORDS),
        group="run",
        metavar="MODEL",
    )
    scheduler: str = option(
        "exponential",
        "learning-rate schedule",
        short="s",
        choices=SCHEDULERS,
        group="optimiser and schedule",
        metavar="NAME",
    )
    data_augmentation: bool = option(
        False,
        "augment the training images: flip, rotate, pad and crop",
        short="a",
        group="augmentation",
    )
    learning_rate: float = option(
        0.0001,
        "initial learning rate, or the peak of onecycle; 'find': the one that a range test "
        "suggests",
        short="l",
        above=0,
        group="optimiser and schedule",
        metavar="RATE",
    )
    weight_decay: float = option(
        0.0001,
        "weight decay",
        short="w",
        minimum=0,
        group="optimiser and schedule",
        metavar="DECAY",
    )
    gamma: float = option(
        0.99,
        "decay factor of exponential (each epoch) and step",
        short="g",
        above=0,
        maximum=1,
        matters_if=_per_scheduler("exponential", "step"),
        group="optimiser and schedule",
        metavar="FACTOR",
    )
    val_freq: int = option(
        1,
        "epochs between two validations",
        short="f",
        minimum=1,
        group="run",
        metavar="EPOCHS",
    )
    early_stopping_patience: int = option(
        20,
        "stop after this many validations in a row without a lower loss",
        short="p",
        minimum=1,
        group="run",
        metavar="COUNT",
    )

    optimizer: str = option(
        "adamw",
        "optimizer",
        choices=OPTIMIZERS,
        group="optimiser and schedule",
        metavar="NAME",
    )
    amsgrad: bool = option(
        True,
        "adam and adamw without AMSGrad",
        matters_if={"optimizer": ("adamw", "adam")},
        group="optimiser and schedule",
    )
    momentum: float = option(
        0.9,
        "momentum of sgd",
        minimum=0,
        below=1,
        matters_if={"optimizer": ("sgd",)},
        group="optimiser and schedule",
        metavar="FACTOR",
    )
    nesterov: bool = option(
        False,
        "sgd with Nesterov momentum",
        matters_if={"optimizer": ("sgd",)},
        group="optimiser and schedule",
    )
    step_size: int = option(
        3,
        "epochs between two decays of step",
        minimum=1,
        matters_if=_per_scheduler("step"),
        group="optimiser and schedule",
        metavar="EPOCHS",
    )
    t_max: int = option(
        10,
        "epochs of half a cosine period",
        minimum=1,
        matters_if=_per_scheduler("cosine"),
        group="optimiser and schedule",
        metavar="EPOCHS",
    )
    eta_min: float = option(
        0.0,
        "lowest learning rate of cosine",
        minimum=0,
        matters_if=_per_scheduler("cosine"),
        group="optimiser and schedule",
        metavar="RATE",
    )
    pct_start: float = option(
        0.3,
        "share of the steps in which onecycle rises, 0 to 1",
        above=0,
        below=1,
        matters_if=_per_scheduler("onecycle"),
        group="optimiser and schedule",
        metavar="SHARE",
    )
    div_factor: float = option(
        25.0,
        "onecycle starts at its peak divided by this",
        above=0,
        matters_if=_per_scheduler("onecycle"),
        group="optimiser and schedule",
        metavar="FACTOR",
    )
    final_div_factor: float = option(
        10000.0,
        "onecycle ends at its start divided by this",
        above=0,
        matters_if=_per_scheduler("onecycle"),
        group="optimiser and schedule",
        metavar="FACTOR",
    )
    anneal_strategy: str = option(
        "cos",
        "shape of onecycle's ramps",
        choices=("cos", "linear"),
        matters_if=_per_scheduler("onecycle"),
        group="optimiser and schedule",
        metavar="SHAPE",
    )
    flip: float = option(
        0.5,
        "probability of a horizontal flip",
        minimum=0,
        maximum=1,
        matters_if=_AUGMENTED,
        group="augmentation",
        metavar="PROB",
    )
    rotation: float = option(
        15.0,
        "maximum rotation in degrees, in either direction",
        minimum=0,
        maximum=180,
        matters_if=_AUGMENTED,
        group="augmentation",
        metavar="DEGREES",
    )
    crop_padding: int = option(
        4,
        "black pixels added on each side before a random crop",
        minimum=0,
        maximum=31,
        matters_if=_AUGMENTED,
        group="augmentation",
        metavar="PIXELS",
    )
    vertical_flip: float = option(
        0.0,
        "probability of a vertical flip",
        minimum=0,
        maximum=1,
        matters_if=_AUGMENTED,
        group="augmentation",
        metavar="PROB",
    )
    brightness: float = option(
        0.0,
        "vary brightness by up to this factor",
        minimum=0,
        matters_if=_AUGMENTED,
        group="augmentation",
        metavar="FACTOR",
    )
    contrast: float = option(
        0.0,
        "vary contrast by up to this factor",
        minimum=0,
        matters_if=_AUGMENTED,
        group="augmentation",
        metavar="FACTOR",
    )
    saturation: float = option(
        0.0,
        "vary saturation by up to this factor",
        minimum=0,
        matters_if=_AUGMENTED,
        group="augmentation",
        metavar="FACTOR",
    )
    hue: float = option(
        0.0,
        "shift the hue by up to this share of the colour circle",
        minimum=0,
        maximum=0.5,
        matters_if=_AUGMENTED,
        group="augmentation",
        metavar="SHARE",
    )
    cutout: int = option(
        0,
        "side of a square that is set to 0 after normalisation",
        minimum=0,
        maximum=32,
        matters_if=_AUGMENTED,
        group="augmentation",
        metavar="PIXELS",
    )
    normalization: str = option(
        "imagenet",
        "mean and standard deviation to normalise with; half: 0.5 and 0.5; measured: on the "
        "training split",
        choices=NORMALIZATIONS,
        group="data",
        metavar="NAME",
    )
    val_split: str = option(
        "last_batch",
        "validation images; last_batch: data_batch_5 of CIFAR-10, the val part of your own data, "
        "or else a stratified fifth of the training images; random, stratified: --val_size of them",
        choices=SPLITS,
        group="data",
        metavar="NAME",
    )
    val_size: int = option(
        5000,
        "validation images of a random or stratified split",
        minimum=1,
        matters_if={"val_split": ("random", "stratified")},
        group="data",
        metavar="IMAGES",
    )
    split_seed: int = option(
        0,
        "seed of a random or stratified split",
        minimum=0,
        matters_if={"val_split": ("random", "stratified")},
        group="data",
        metavar="SEED",
    )
    max_images: int = option(
        0,
        "maximum number of training, of validation and of test images; 0: no limit",
        minimum=0,
        group="data",
        metavar="IMAGES",
    )
    dropout: float | None = option(
        None,
        "dropout probability",
        minimum=0,
        below=1,
        group="model",
        metavar="PROB",
    )
    hidden_units: int | None = option(
        None,
        "channels of the convolutions",
        minimum=1,
        group="model",
        metavar="CHANNELS",
    )
    batch_norm: bool | None = option(
        None,
        "batch norm after the convolutions; --no_batch_norm for none",
        group="model",
    )
    fc1: int | None = option(
        None,
        "units of the first fully connected layer",
        minimum=1,
        group="model",
        metavar="UNITS",
    )
    fc2: int | None = option(
        None,
        "units of the second fully connected layer",
        minimum=1,
        group="model",
        metavar="UNITS",
    )
    model_option: str | None = option(
        None,
        "option of an architecture of your own, of torchvision or timm; may be repeated",
        pattern=(model_options.PATTERN, model_options.IN_WORDS),
        canonical=model_options.canonical,
        group="model",
        metavar="NAME=VALUE",
    )
    model_digest: str | None = option(
        None,
        "digest of the source of an architecture of your own; set by the program",
        pattern=(r"[0-9a-f]{16}", "16 hexadecimal digits"),
    )
    initialization: str = option(
        "default",
        "initial weights of convolutions and dense layers; default: PyTorch's own",
        choices=INITIALIZATIONS,
        group="model",
        metavar="NAME",
    )
    weights: str = option(
        "imagenet",
        "backbone weights: imagenet (downloaded once), a state-dict file, or none",
        matters_if={"model_type": PRETRAINED},
        group="model",
        metavar="SOURCE",
    )
    freeze_backbone: bool = option(
        True,
        "train a pretrained backbone too, not the last layer alone",
        matters_if={"model_type": PRETRAINED},
        group="model",
    )
    label_smoothing: float = option(
        0.0,
        "share of each training label that is spread over all classes",
        minimum=0,
        below=1,
        group="optimiser and schedule",
        metavar="SHARE",
    )
    ema: float = option(
        0.0,
        "evaluate and keep an exponential moving average of the weights, with this decay "
        "per step; 0 for none",
        minimum=0,
        below=1,
        group="optimiser and schedule",
        metavar="DECAY",
    )
    seed: int = option(
        0,
        "seed of weights, image order and augmentation",
        minimum=0,
        group="run",
        metavar="SEED",
    )
    precision: str = option(
        "auto",
        "number format of matrix products; auto: the fastest on this device, measured once; "
        "tf32: float32 with products rounded to TF32 on a GPU, which float32 never does",
        choices=PRECISIONS,
        group="arithmetic",
        metavar="TYPE",
    )
    memory_format: str = option(
        "auto",
        "memory format of images and weights; auto: measured with the precision",
        choices=MEMORY_FORMATS,
        group="arithmetic",
        metavar="ORDER",
    )
    convolution: str = option(
        "auto",
        "algorithm of 3x3 convolutions on a CPU; auto: measured with the precision",
        choices=CONVOLUTIONS,
        group="arithmetic",
        metavar="WAY",
    )

    cpu_kernels: bool = option(
        True,
        "turn off this project's own CPU kernels, to check a result against PyTorch's",
        group="arithmetic",
    )
    compile: bool = option(
        False,
        "fuse the training step with torch.compile, which takes a minute per architecture",
        group="arithmetic",
    )

    parent: str = option(
        "none",
        "run whose weights this one starts with; set by --continue",
        group="run",
        metavar="RUN",
    )
    parent_weights: str = option(
        "none",
        "state-dict file of those weights; set by --continue",
        changes_result=False,
        group="run",
        metavar="FILE",
    )
    device: str = option(
        "auto",
        "where to train; auto: a GPU if there is one",
        choices=DEVICES,
        pattern=(r"cuda:\d{1,3}", "cuda:N"),
        changes_result=False,
        group="run",
        metavar="DEVICE",
    )
    cudnn_benchmark: bool = option(
        False,
        "on a GPU, let cuDNN measure its convolution algorithms; results of two starts may then "
        "differ in the last bits",
        group="arithmetic",
    )
    cuda_graphs: bool = option(
        True,
        "launch each training step on a GPU kernel by kernel, not as a CUDA graph",
        changes_result=False,
        group="arithmetic",
    )
    keep_checkpoints: str = option(
        "best",
        "weights to keep of a finished run; best: best_val_acc.pt; all: all three files",
        choices=CHECKPOINTS_KEPT,
        changes_result=False,
        group="output",
        metavar="WHICH",
    )
    checkpoint_minutes: float = option(
        5.0,
        "minutes between two resume checkpoints",
        minimum=0,
        changes_result=False,
        group="output",
        metavar="MINUTES",
    )

    def __post_init__(self) -> None:
        for spec in _specs():
            value, default = getattr(self, spec.name), spec.default
            if value is default or (type(value) is type(default) and value == default):
                continue  # a default needs no check: thousands of configs are read at once
            object.__setattr__(self, spec.name, checked(spec, value))
        if self.convolution not in ("auto", "direct") and not self.replaces_convolutions:
            other = "--no_cpu_kernels" if not self.cpu_kernels else self.model_type
            raise InvalidValue("convolution", self.convolution, f"auto or direct with {other}")
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise InvalidValue("momentum", self.momentum, "a number above 0 with nesterov")
        if self.is_external_model or self.model_digest:
            self._check_model()

    def _check_model(self) -> None:
        """Raise InvalidValue for settings that do not fit the kind of architecture."""
        if len(self.model_name) > _MAX_MODEL_NAME:
            raise InvalidValue(
                "model_type", self.model_type, f"a name of at most {_MAX_MODEL_NAME} characters"
            )
        if self.model_digest and not model_source.code_of(self.model_type):
            raise InvalidValue("model_digest", self.model_digest, f"none with {self.model_type}")

    @property
    def data_name(self) -> str:
        """Name of the data in ids and tables: `dataset`, or 'synthetic' for its stand-in.

        The stand-in for another data set than CIFAR-10 is 'synthetic-NAME'.
        """
        if self.base_dataset_path != SYNTHETIC:
            return self.dataset
        return SYNTHETIC if self.dataset == DATASETS[0] else f"{SYNTHETIC}-{self.dataset}"

    @property
    def model_name(self) -> str:
        """The architecture's name in tables and folders, such as vgg6 or my_nets.SmallNet."""
        return model_source.model_name(self.model_type)

    @property
    def replaces_convolutions(self) -> bool:
        """Whether CPU kernels may replace convolutions: only in models of src/models."""
        return self.cpu_kernels and ":" not in self.model_type

    @property
    def group(self) -> str:
        """Runs that may be ranked with each other: of an architecture on one data set.

        The architecture alone for CIFAR-10 and its stand-in, else 'MODEL on DATASET'.
        """
        return group_name(self.model_name, self.data_name)

    @property
    def data_key(self) -> tuple[str, str]:
        """Identifies a data set on this machine: its path and its name."""
        return self.base_dataset_path, self.dataset

    @property
    def kept_weights(self) -> tuple[str, ...]:
        """The kinds of weights that a finished run keeps, of CHECKPOINT_KINDS."""
        kept = {"best": CHECKPOINT_KINDS[:1], "all": CHECKPOINT_KINDS, "none": ()}
        return kept[self.keep_checkpoints]

    @property
    def is_external_model(self) -> bool:
        """Whether the architecture is a person's own, or of torchvision or timm."""
        return ":" in self.model_type

    @property
    def is_synthetic(self) -> bool:
        """Whether the data is a stand-in, which says nothing about the real one."""
        return self.base_dataset_path == SYNTHETIC

    @property
    def name(self) -> str:
        """The name of the run: its model and the hyperparameters of the reference grid.

        It ends with the data set if that is not CIFAR-10 or its stand-in.
        """
        name = (
            f"{self.model_name}_aug_{self.data_augmentation}_scheduler_{self.scheduler}"
            f"_lr_{self.learning_rate}_wd_{self.weight_decay}_gamma_{self.gamma}"
        )
        return name if self.group == self.model_name else f"{name}{DATA_PART}{self.data_name}"

    @property
    def title(self) -> str:
        """The name of the run in messages, with a seed other than 0: replicates share the name."""
        return f"{self.name} seed {self.seed}" if self.seed else self.name

    @cached_property
    def id(self) -> str:
        """Hash of all settings that can change the result: ten hexadecimal digits.

        Fields with a short flag always count, others only where they differ from their default:
        a field that is added later changes no existing id.
        """
        return _digest({**self._identifying_fields(), "dataset": self.data_name})

    @cached_property
    def config_id(self) -> str:
        """The same hash without the seed: equal for all seeds of a configuration."""
        settings = {**self._identifying_fields(), "seed": "any"}
        return _digest({**settings, "dataset": self.data_name})

    def _identifying_fields(self) -> dict[str, Any]:
        run = self.canonical()
        values = {
            spec.name: getattr(run, spec.name)
            for spec in _specs()
            if spec.metadata["changes_result"]
            and (spec.metadata["short"] or getattr(run, spec.name) != spec.default)
        }
        return {**values, "model_type": self.model_name}  # not the folder of its file

    @cached_property
    def cell(self) -> str:
        """The name of the grid cell: that of the run, and a hash of every setting as given.

        Settings without effect count too (gamma under cosine): cells differ where runs do not.
        """
        return f"{self.name}-{_digest(self.given())}"

    def given(self) -> dict[str, Any]:
        """The fields that identify a grid cell, with the values as given.

        A field that was added later counts only where it differs from its default.
        """
        values = {
            spec.name: getattr(self, spec.name)
            for spec in _specs()
            if spec.metadata["changes_result"] and self._is_written(spec)
        }
        return {**values, "model_type": self.model_name}

    def canonical(self) -> "RunConfig":
        """The same training, with every field that has no effect at its default."""
        return self._canonical

    @cached_property
    def _canonical(self) -> "RunConfig":
        idle: dict[str, Any] = {
            spec.name: spec.default
            for spec in _specs()
            if getattr(self, spec.name) != spec.default and not self.uses(spec.name)
        }
        return replace(self, **idle) if idle else self

    def uses(self, name: str) -> bool:
        """Whether a field has an effect: gamma has none without a schedule that decays by it."""
        conditions = self.__dataclass_fields__[name].metadata["matters_if"]
        return all(getattr(self, other) in values for other, values in conditions.items())

    def as_dict(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)

    def stored(self) -> dict[str, Any]:
        """What config.json holds: all fields, later ones only where they are not at default."""
        return {spec.name: getattr(self, spec.name) for spec in _specs() if self._is_written(spec)}

    def _is_written(self, spec: "Field[Any]") -> bool:
        return spec.name in _FIRST_FIELDS or getattr(self, spec.name) != spec.default


def _digest(values: Mapping[str, object]) -> str:
    """Ten hex digits of a mapping's content."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def field_names() -> list[str]:
    """Names of all fields of RunConfig."""
    return [spec.name for spec in _specs()]


def given_names() -> list[str]:
    """Names of the fields that people give; the others are set by the program."""
    return [name for name in field_names() if name != "model_digest"]


@cache
def _specs() -> "tuple[Field[Any], ...]":
    return fields(RunConfig)


def check_given(values: Mapping[str, object], source: str) -> None:
    """Raise UserError that begins with `source` for a setting that people do not give."""
    for name in values:
        if name in field_names() and name not in given_names():
            raise UserError(f"{source}: {name} is set by the program; expected it left out")


def from_mapping(values: Mapping[str, object], source: str) -> RunConfig:
    """A RunConfig from the names and values of a YAML file or a set-file line.

    Raises UserError that begins with `source`.
    """
    known = field_names()
    if unknown := values.keys() - set(known):
        name = next(name for name in values if name in unknown)
        raise UserError(f"{source}: unknown setting {name!r}{did_you_mean(str(name), known)}")
    if values.get("learning_rate") == FIND:
        raise UserError(f"{source}: learning_rate 'find' is for src/main.py; expected a number")
    where = default_dataset_path(values.get("dataset", RunConfig.dataset))
    settings = {"base_dataset_path": where, **values}
    try:
        return RunConfig(**settings)  # type: ignore[arg-type]  # checked by __post_init__
    except InvalidValue as error:
        raise UserError(f"{source}: {error}") from None


def with_digests(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """The configs that a person gives, each with the digest of its architecture's source now.

    Only code that went through here or through `trust_model` may be imported. Raises UserError if a
    source is missing, or is not what it should be.
    """
    configs = list(configs)
    names = dict.fromkeys(config.model_type for config in configs)
    digests = {name: model_source.trust_model(name) for name in names}
    return [
        replace(config, model_digest=digest)
        if (digest := digests[config.model_type]) != config.model_digest
        else config
        for config in configs
    ]


def with_missing_digests(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """Add the digest to configs that were made in Python and name a custom model without it."""

    def lacks_digest(config: RunConfig) -> bool:
        return config.model_digest is None and model_source.code_of(config.model_type) is not None

    named = iter(with_digests(filter(lacks_digest, configs)))
    return [next(named) if lacks_digest(config) else config for config in configs]
