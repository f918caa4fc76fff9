"""submit --time auto: time limits of workers from the speeds that estimate has measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.common.paths import speeds_file
from src.config import RunConfig
from src.runs.run_folder import RunFolder
from src.slurm import partitions
from src.sweep import measured_speeds
from src.sweep.cost import SpeedKey, TrainingSpeed, seconds
from src.sweep.launch.plan import WorkerPool, find_pending_runs
from src.sweep.launch.sbatch import Resources
from src.sweep.launch.submit_options import parse
from src.sweep.launch.time_limits import TimeLimit, time_limits, with_limits
from src.sweep.measured_speeds import Measurement

BASE = RunConfig(base_dataset_path="synthetic", model_type="cnn", num_epochs=10)
SECONDS = (10 * 8_000 + 0.4 * (10 * 2_000 + 3 * 2_000)) / 10  # of BASE, at 10 images/s
CNN: SpeedKey = ("cnn", 256, False)
VIT: SpeedKey = ("vit", 256, True)


def speed(images_per_second: float, slots: int = 1) -> TrainingSpeed:
    return TrainingSpeed(images_per_second, slots, parameters=1, features=1)


@pytest.fixture(autouse=True)
def no_partition_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "node_groups", list)


def limits_of(
    runs_dir: Path, configs: list[RunConfig], workers: int, resources: Resources | None = None
) -> list[TimeLimit]:
    """Return the time limits of a pool for each architecture of `configs`."""
    models = dict.fromkeys(config.model_type for config in configs)
    groups = {model: [c for c in configs if c.model_type == model] for model in models}
    pending = [find_pending_runs(m, cs, runs_dir, retries=2) for m, cs in groups.items()]
    pools = [WorkerPool(group, workers) for group in pending]
    return time_limits(pools, resources or Resources(), runs_dir)


def test_images_of_the_base_run_are_those_assumed() -> None:
    assert seconds(BASE, speed(10)) == pytest.approx(SECONDS)


@pytest.mark.parametrize(
    ("runs", "workers", "slots", "expected"),
    [
        (1, 1, 1, SECONDS),
        (6, 1, 1, 6 * SECONDS),
        (6, 3, 1, 2 * SECONDS + 2 / 3 * SECONDS),  # the last run may begin when the others end
        (6, 3, 4, 2 * SECONDS + 2 / 3 * 4 * SECONDS),  # beside three others
        (6, 2, 16, 6 * SECONDS),  # no worker does more than all of the work
    ],
)
def test_limit_covers_the_longest_worker_with_a_margin(
    tmp_path: Path, runs: int, workers: int, slots: int, expected: float
) -> None:
    measured_speeds.save(Measurement("A100", True, {CNN: speed(10, slots)}), tmp_path)
    configs = [replace(BASE, seed=seed) for seed in range(runs)]
    [limit] = limits_of(tmp_path, configs, workers)
    wanted = (1.25 * expected + 60) / 60
    assert wanted <= limit.minutes < wanted + 30
    assert limit.minutes % 30 == 0


def test_limit_is_half_an_hour_at_least_and_that_of_the_partition_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_speeds.save(Measurement("A100", True, {CNN: speed(1e6)}), tmp_path)
    [limit] = limits_of(tmp_path, [BASE], 1)
    assert limit.minutes == 30
    measured_speeds.save(Measurement("A100", True, {CNN: speed(0.1)}), tmp_path)
    nodes = partitions.parse_node_groups("gpu*|up|2:00:00|1|idle|gpu:1\nlong|up|infinite|1|idle|")
    monkeypatch.setattr(partitions, "node_groups", lambda: nodes)
    [capped] = limits_of(tmp_path, [BASE], 1)
    assert capped.minutes == 120
    assert "cnn 120 minutes, the partition's limit: workers are requeued;" in capped.in_words()
    [free] = limits_of(tmp_path, [BASE], 1, Resources(partition="long"))
    assert free.minutes > 10_000


def test_each_architecture_gets_its_own_limit_in_one_line(tmp_path: Path) -> None:
    vit = replace(BASE, model_type="vit", data_augmentation=True)
    speeds = {CNN: speed(1234.5), ("cnn", 64, False): speed(99), VIT: speed(1)}
    measured_speeds.save(Measurement("A100", True, speeds), tmp_path)
    configs = [BASE, replace(BASE, batch_size=64), vit, replace(BASE, model_type="resnet")]
    resources = Resources(minutes_of={"resnet": 77})
    limits = limits_of(tmp_path, configs, 1, resources)
    assert [limit.model for limit in limits] == ["cnn", "vit"]
    assert limits[0].in_words() == (
        "--time auto: cnn 30 minutes; 2 runs, 1 workers; measured: "
        "1,234 images/s (batch 256) on A100 and 99 images/s (batch 64) on A100"
    )
    vit_minutes = limits[1].minutes
    assert vit_minutes > 1000
    chosen = with_limits(resources, limits)
    assert chosen.minutes_of == {"resnet": 77, "cnn": 30, "vit": vit_minutes}


def test_done_runs_take_no_time(tmp_path: Path) -> None:
    measured_speeds.save(Measurement("A100", True, {CNN: speed(10)}), tmp_path)
    other = replace(BASE, seed=1)
    [before] = limits_of(tmp_path, [BASE, other], 1)
    folder = RunFolder.of(other, tmp_path).path
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"run_id": "x", "test_accuracy_best_val_acc": 0.5}')
    [after] = limits_of(tmp_path, [BASE, other], 1)
    assert (before.runs, after.runs) == (2, 1)
    assert after.minutes < before.minutes


def test_speed_of_a_cpu_is_not_taken_for_that_of_a_gpu(tmp_path: Path) -> None:
    measured_speeds.save(Measurement("Xeon", False, {CNN: speed(10)}), tmp_path)
    with pytest.raises(UserError) as caught:
        limits_of(tmp_path, [BASE], 1)
    assert str(caught.value) == (
        f"--time auto: {speeds_file(tmp_path)} has no speed of cnn (batch 256) on a GPU; on such a "
        f"node, first: python -m src.sweep estimate --runs {tmp_path}, with the same sets or grid"
    )
    [limit] = limits_of(tmp_path, [BASE], 1, Resources(gres=None))
    assert "10 images/s (batch 256) on Xeon" in limit.in_words()
    with pytest.raises(UserError, match="no speed of cnn"):
        limits_of(
            tmp_path, [BASE], 1, Resources(gres=None, additional_parameters={"gpus-per-node": "1"})
        )


def test_speeds_are_kept_beside_earlier_ones(tmp_path: Path) -> None:
    measured_speeds.save(Measurement("A100", True, {CNN: speed(10), VIT: speed(5, 3)}), tmp_path)
    measured_speeds.save(Measurement("Xeon", False, {CNN: speed(1)}), tmp_path)
    measured_speeds.save(Measurement("H100", True, {CNN: speed(20)}), tmp_path)
    on_gpu = measured_speeds.read(tmp_path, is_gpu=True)
    assert {one: (of.device, of.speed) for one, of in on_gpu.items()} == {
        CNN: ("H100", speed(20)),
        VIT: ("A100", speed(5, 3)),
    }
    assert list(measured_speeds.read(tmp_path, is_gpu=False)) == [CNN]


@pytest.mark.parametrize(
    "damage",
    [("10", '"fast"'), ("10", "0"), ('"slots": 1', '"slots": null'), ("[", "{"), ("256", "[1]")],
)
def test_damaged_speeds_count_as_not_measured(tmp_path: Path, damage: tuple[str, str]) -> None:
    path = measured_speeds.save(Measurement("A100", True, {CNN: speed(10)}), tmp_path)
    assert measured_speeds.read(tmp_path, is_gpu=True)
    path.write_text(path.read_text().replace(*damage).replace("10.0", "10"))
    assert measured_speeds.read(tmp_path, is_gpu=True) == {}
    measured_speeds.save(Measurement("A100", True, {CNN: speed(3)}), tmp_path)
    assert list(measured_speeds.read(tmp_path, is_gpu=True)) == [CNN]


def test_auto_is_for_all_architectures_without_a_limit() -> None:
    flags = ["--time", "auto", "--time", "vit=90"]
    resources = parse(flags).resources
    assert (resources.is_time_auto, resources.minutes, resources.minutes_of) == (
        *(True, 30),
        {"vit": 90},
    )
    assert not parse(["--time", "auto", "--time", "60"]).resources.is_time_auto
    with pytest.raises(UserError, match="--time: 'auto': expected a whole number"):
        parse(["--time", "vit=auto"])
