"""The time limits of submit --time auto: for each architecture, from measured speeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from src.common.errors import UserError
from src.common.paths import shown, speeds_file
from src.config import RunConfig
from src.slurm.partitions import max_time_minutes
from src.sweep import measured_speeds
from src.sweep.cost import SpeedKey, limit_minutes, seconds, speed_key, speed_key_in_words
from src.sweep.launch.plan import WorkerPool
from src.sweep.launch.sbatch import Resources
from src.sweep.measured_speeds import KnownSpeed


@dataclass(frozen=True)
class TimeLimit:
    """The time limit of the workers of an architecture, and what it follows from."""

    model: str
    minutes: int
    is_capped: bool
    """Whether it is that of the partition, which is shorter."""
    runs: int
    workers: int
    speeds: Mapping[SpeedKey, KnownSpeed]

    def in_words(self) -> str:
        """One line that tells what was chosen, and from which measured speeds."""
        cap = ", the partition's limit: workers are requeued" if self.is_capped else ""
        speeds = " and ".join(
            f"{known.speed.images_per_second:,.0f} images/s ({speed_key_in_words(key)}) on "
            f"{known.device}"
            for key, known in self.speeds.items()
        )
        work = f"{self.runs} runs, {self.workers} workers"
        return f"--time auto: {self.model} {self.minutes} minutes{cap}; {work}; measured: {speeds}"


def time_limits(
    pools: Sequence[WorkerPool], resources: Resources, runs_dir: Path
) -> list[TimeLimit]:
    """A time limit for each pool whose architecture has none yet.

    Raises UserError that says what to do if a speed is not measured.
    """
    known = measured_speeds.read(runs_dir, is_gpu=resources.has_gpu)
    longest = max_time_minutes(resources.partition)
    limits = []
    for pool in pools:
        if pool.pending.name not in resources.minutes_of:
            runs = [cells[0] for cells in pool.pending.todo.values()]
            speeds = _speeds_of(runs, known, resources.has_gpu, runs_dir)
            wanted = limit_minutes(_longest_worker(runs, speeds, pool.workers))
            minutes = min(wanted, longest or wanted)
            capped = minutes < wanted
            limits.append(
                TimeLimit(pool.pending.name, minutes, capped, len(runs), pool.workers, speeds)
            )
    return limits


def with_limits(resources: Resources, limits: Sequence[TimeLimit]) -> Resources:
    """The resources with these time limits."""
    chosen = {limit.model: limit.minutes for limit in limits}
    return replace(resources, minutes_of={**resources.minutes_of, **chosen})


def _speeds_of(
    runs: Sequence[RunConfig], known: Mapping[SpeedKey, KnownSpeed], has_gpu: bool, runs_dir: Path
) -> dict[SpeedKey, KnownSpeed]:
    speeds = {}
    for key in dict.fromkeys(map(speed_key, runs)):
        if key not in known:
            device = "GPU" if has_gpu else "CPU"
            raise UserError(
                f"--time auto: {shown(speeds_file(runs_dir))} has no speed of {key[0]} "
                f"({speed_key_in_words(key)}) on a {device}; on such a node, first: "
                f"python -m src.sweep estimate --runs {shown(runs_dir)}, with the same sets or grid"
            )
        speeds[key] = known[key]
    return speeds


def _longest_worker(
    runs: Sequence[RunConfig], speeds: Mapping[SpeedKey, KnownSpeed], workers: int
) -> float:
    """Upper bound in seconds on how long the longest of `workers` takes that share a list of runs.

    The bound of list scheduling (Graham 1969): total / W + (1 - 1 / W) * longest run. The longest
    run is multiplied by the device's slots, since runs that share a device slow each other down.
    """
    alone = [seconds(run, speeds[speed_key(run)].speed) for run in runs]
    in_slots = [
        duration * speeds[speed_key(run)].speed.slots
        for duration, run in zip(alone, runs, strict=True)
    ]
    return min(sum(alone), sum(alone) / workers + (1 - 1 / workers) * max(in_slots))
