"""Cost estimates of sweeps: images, seconds, disk space, time limits."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from src.config import RunConfig
from src.data.sizes import images_of
from src.pruning.pruner import SuccessiveHalving
from src.sweep import estimate, grid, measured_speeds
from src.sweep.cost import (
    Cost,
    TrainingSpeed,
    cost,
    one_of_each_kind,
    seconds,
    share_with,
    speed_key,
)
from tests.conftest import RunCommand

SPEED = TrainingSpeed(images_per_second=1000, slots=4, parameters=1_000_000, features=64)


def costs(configs: list[RunConfig]) -> Cost:
    return cost(configs, dict.fromkeys(map(speed_key, configs), SPEED), SuccessiveHalving(5, 3))


def test_run_time_is_proportional_to_number_of_images() -> None:
    run = RunConfig(num_epochs=10)
    assert images_of(run) == (40_000, 10_000, 10_000)
    passes = 10 * 40_000 + 0.4 * (10 * 10_000 + 3 * 10_000)
    assert seconds(run, SPEED) == pytest.approx(passes / 1000)
    rarely_validated = replace(run, val_freq=5)
    assert seconds(rarely_validated, SPEED) == pytest.approx((passes - 0.4 * 80_000) / 1000)
    short = replace(run, max_images=100, val_split="random", val_size=50)
    assert images_of(short) == (100, 50, 100)
    assert images_of(replace(run, base_dataset_path="synthetic")).train == 8_000
    assert images_of(replace(run, dataset="stl10")) == (4_000, 1_000, 8_000), "more test images"


def test_cells_with_same_id_are_counted_once() -> None:
    configs = grid.expand(grid.REFERENCE)
    total = costs(configs)
    assert (total.cells, total.trainings) == (864, 672)
    assert total.device_seconds / total.undeduplicated_device_seconds == pytest.approx(672 / 864)
    assert total.disk_bytes == pytest.approx(672 * (4e6 + 10_000 * 150 + 180_000), rel=0.01)
    assert total.peak_disk_bytes == 4 * 2 * 6 * 4_000_000
    assert len(one_of_each_kind(configs)) == 6


def test_pruning_estimate_follows_from_rungs() -> None:
    assert share_with(SuccessiveHalving(5, 3), 5) == 1
    share = (5 + (15 - 5) / 3 + (45 - 15) / 9 + (80 - 45) / 27) / 80
    assert share_with(SuccessiveHalving(5, 3), 80) == pytest.approx(share)
    single_run = costs([RunConfig()])
    assert single_run.pruned_device_seconds == pytest.approx(single_run.device_seconds * share)


@pytest.mark.parametrize(
    ("device_seconds", "limit"), [(10, "00:30:00"), (3600, "01:30:00"), (100_000, "1-11:00:00")]
)
def test_time_limit_has_slurm_format(device_seconds: float, limit: str) -> None:
    assert replace(costs([RunConfig()]), device_seconds=device_seconds).time_limit == limit


def test_measure_trains_model_and_returns_speed(config: RunConfig) -> None:
    speed = estimate.measure(config, torch.device("cpu"), None, budget=0.3)
    assert (speed.slots, speed.parameters, speed.features) == (1, 201_230, 64)
    assert 10 < speed.images_per_second < 100_000
    two = estimate.measure(config, torch.device("cpu"), 2, budget=0.3)
    assert two.slots == 2


def test_estimate_command(command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        "base_dataset_path: synthetic\nmodel_type: cifar10net\nnum_epochs: 1\nmax_images: 1000\n"
    )
    runs = tmp_path / "runs"
    words = ("python", "-m", "src.sweep", "estimate", "--seconds", 1, "--runs", runs, "--grid")
    output = command(*words, tmp_path / "grid.yaml").stdout
    assert output.startswith("block 1: 1 cells, 0 of them in an earlier block; 0 aliases")
    assert "  model_type         cifar10net\n" in output
    assert "--time=00:30:00" in output
    assert "--prune --first_rung 10 --reduction 2" in output
    output = json.loads(command(*words, "run_config/demo_grid.yaml", "--json").stdout)
    assert output["all"]["all"]["cells"] == 18
    assert set(output["models"]) == {row[0] for row in output["speeds"]}
    [block] = output["blocks"]
    assert (block["cells"], block["repeated"], block["aliases"]) == (18, 0, 0)
    assert block["axes"]["data_augmentation"] == "False, True"
    is_gpu = torch.cuda.is_available()
    kinds = {*(tuple(row[:3]) for row in output["speeds"]), ("cifar10net", 256, False)}
    assert set(measured_speeds.read(runs, is_gpu=is_gpu)) == kinds, "both grids are kept"
    sets = command("python", "-m", "src.sweep", "estimate", "99", check=2)
    assert sets.stderr.startswith("error: set '99'")
