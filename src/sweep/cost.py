"""The cost of runs: device time, disk space and time limits, from measured speeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from src.common.data_names import IMAGE_SIZE, image_size
from src.config import CHECKPOINT_KINDS, RunConfig
from src.data.sizes import images_of
from src.pruning.halving import SuccessiveHalving

_MARGIN = 1.25  # of a job's time limit over its expected work
_START_SECONDS = 60  # of a job, before it trains
_BYTES_OF_A_PREDICTION = 2 + 2 * 10  # label, prediction, probabilities in float16
_VALIDATION_SHARE = 0.4  # of a training step's time that a forward pass alone takes, at most

_SHOWN_DIGITS = 6  # of the digest of a model

SpeedKey = tuple[str, int, bool]  # what determines the speed: model, batch size, augmentation


@dataclass(frozen=True)
class TrainingSpeed:
    """The measured speed of a kind of run: images per second of `slots` runs together."""

    images_per_second: float
    slots: int
    parameters: int
    features: int


@dataclass(frozen=True)
class Cost:
    """The cost of some grid cells if every run is trained to its last epoch."""

    cells: int
    trainings: int
    device_seconds: float
    pruned_device_seconds: float
    """Device seconds with successive halving."""
    undeduplicated_device_seconds: float
    """Device seconds if every cell were trained, equal ones too."""
    disk_bytes: int
    """Bytes of finished runs."""
    peak_disk_bytes: int
    """Additional bytes for the resume checkpoints of the runs in training."""

    @property
    def time_limit(self) -> str:
        """--time of sbatch for one job with these cells: with a margin, in half hours."""
        days, halves = divmod(limit_minutes(self.device_seconds) // 30, 48)
        clock = f"{halves // 2:02}:{halves % 2 * 30:02}:00"
        return f"{days}-{clock}" if days else clock


def limit_minutes(seconds: float) -> int:
    """Minutes of a job's time limit for so many seconds of work: with a margin, in half hours."""
    return 30 * math.ceil((seconds * _MARGIN + _START_SECONDS) / 1800)


def speed_key(config: RunConfig) -> SpeedKey:
    """What decides how fast a run trains: its model, batch size and augmentation.

    The model's name includes @SIZE if images are not 32 x 32, its options, and the version of a
    custom model. Runs with one key take the same time per image, within the little that classes and
    channels add.
    """
    size = image_size(config.dataset)
    model = config.model_name if size == IMAGE_SIZE else f"{config.model_name}@{size}"
    if config.model_option:
        model += f"[{config.model_option}]"
    if config.model_digest:
        model += f" ({config.model_digest[:_SHOWN_DIGITS]})"
    return model, config.batch_size, config.data_augmentation


def speed_key_in_words(key: SpeedKey) -> str:
    """The batch size and augmentation of a kind."""
    _, batch, augmented = key
    return f"batch {batch}{', augmented' if augmented else ''}"


def cost(
    configs: Sequence[RunConfig],
    speeds: Mapping[SpeedKey, TrainingSpeed],
    halving: SuccessiveHalving,
) -> Cost:
    """The cost of `configs`, all on one device."""
    unique = list({config.id: config for config in configs}.values())
    running = sorted((_resume_bytes(speeds[speed_key(run)]) for run in unique), reverse=True)
    widest = max(speeds[speed_key(run)].slots for run in unique)
    return Cost(
        cells=len(configs),
        trainings=len(unique),
        device_seconds=sum(seconds(run, speeds[speed_key(run)]) for run in unique),
        pruned_device_seconds=sum(
            seconds(run, speeds[speed_key(run)]) * share_with(halving, run.num_epochs)
            for run in unique
        ),
        undeduplicated_device_seconds=sum(seconds(run, speeds[speed_key(run)]) for run in configs),
        disk_bytes=sum(_kept_bytes(run, speeds[speed_key(run)]) for run in unique),
        peak_disk_bytes=sum(running[:widest]),
    )


def seconds(config: RunConfig, speed: TrainingSpeed) -> float:
    """Device seconds of a run to its last epoch."""
    train, validation, test = images_of(config)
    validations = math.ceil(config.num_epochs / config.val_freq)
    looked_at = validations * validation + len(CHECKPOINT_KINDS) * test
    images = config.num_epochs * train + _VALIDATION_SHARE * looked_at
    return images / speed.images_per_second


def share_with(halving: SuccessiveHalving, num_epochs: int) -> float:
    """The mean share of its epochs that a run is trained for, if 1 / reduction pass each rung."""
    rungs = [*halving.rungs(num_epochs), num_epochs]
    done, going_on, before = 0.0, 1.0, 0
    for rung in rungs:
        done += going_on * (rung - before)
        going_on, before = going_on / halving.reduction, rung
    return done / num_epochs


def _kept_bytes(config: RunConfig, speed: TrainingSpeed) -> int:
    kept = len(config.kept_weights)
    test = images_of(config).test
    predictions = test * (_BYTES_OF_A_PREDICTION + 2 * speed.features)
    text = 2_000 * config.num_epochs + 20_000  # history, result, config
    return kept * 4 * speed.parameters + predictions + text


def _resume_bytes(speed: TrainingSpeed) -> int:
    """Bytes of two checkpoints, each with weights, three moments and two best weights."""
    return 2 * 6 * 4 * speed.parameters


def one_of_each_kind(configs: Sequence[RunConfig]) -> dict[SpeedKey, RunConfig]:
    """One run of each kind."""
    kinds: dict[SpeedKey, RunConfig] = {}
    for config in configs:
        kinds.setdefault(speed_key(config), config)
    return kinds
