"""The numbers that the status of a sweep shows."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from src.common import files
from src.common.paths import CONFIG, precision_decision_file, run_name
from src.common.result_values import TEST_ACCURACY
from src.data.sizes import images_of
from src.runs import leases
from src.runs.snapshot import State
from src.slurm.job_queue import Job, JobState, distinct
from src.sweep.status.device_time import wasted_seconds
from src.sweep.status.eta import RemainingWork, remaining_work, seconds_until_done
from src.sweep.status.failures import Failures, failures
from src.sweep.status.run_states import SweepRun

_RECENT_EPOCHS = 5
_SEED = re.compile(rb'"seed": \d+')


@dataclass(frozen=True)
class StateCounts:
    """Number of grid cells, and of runs (which cells may share), in each state."""

    cells: dict[State, int]
    trainings: dict[State, int]


@dataclass(frozen=True)
class BestRun:
    """The best finished configuration of an architecture by validation accuracy.

    Accuracies, from 0 to 1, are means over its seeds; name and id are of its best run.
    """

    model: str
    name: str
    run_id: str
    val_accuracy: float
    test_accuracy: float
    seeds: int = 1
    val_deviation: float | None = None
    """Standard deviation of the validation accuracy over its seeds. None for one seed."""


@dataclass(frozen=True)
class Throughput:
    """The runs in training."""

    running: int
    silent: int
    """Running, but without a heartbeat for five minutes."""
    measured: int
    """Running, not silent, and past the first epoch."""
    images_per_second: float | None
    """Training images per second of those measured, over their last epochs."""


@dataclass(frozen=True)
class QueueSummary:
    """The jobs of this user that were submitted from this repository."""

    active: int
    waiting: int
    reasons: dict[str, int]
    """Number of waiting jobs by Slurm's reason."""
    stranded: tuple[str, ...]
    """Jobs that Slurm holds until somebody releases them."""


@dataclass(frozen=True)
class Overview:
    """Everything that the status of a sweep shows."""

    all: StateCounts
    models: dict[str, StateCounts]
    sets: dict[str, StateCounts]
    best: list[BestRun]
    speed: Throughput
    left: list[RemainingWork]
    seconds_left: float | None
    """Seconds until all is done at the present number of runs. None if unknown."""
    failures: list[Failures]
    queue: QueueSummary | None
    """None if Slurm is absent or does not answer."""
    wasted_device_hours: float
    """Device time whose work was lost, as defined in device_time.py."""
    outside: int
    """Number of run folders that belong to none of the sets."""
    precisions: dict[str, str] = field(default_factory=dict)
    """What precision auto means here, by architecture and the device that decided it."""


def decided_precisions(runs_dir: Path) -> dict[str, str]:
    """What precision auto means in a runs folder, as in `Overview`."""
    folder = precision_decision_file(runs_dir, "any").parent
    records = [files.read_json(folder / name) or {} for name in sorted(files.names_in(folder))]
    return {
        f"{record['model_type']} on {record['device']}": str(record["precision"])
        for record in records
        if record.keys() >= {"model_type", "device", "precision"}
    }


def overview(
    runs: Sequence[SweepRun],
    queued: Mapping[str, Job] | None,
    outside: int = 0,
    *,
    each_run: bool = False,
    precisions: Mapping[str, str] | None = None,
) -> Overview:
    """Summarise `runs`.

    queued: from `job_queue.jobs`. each_run: the best are single runs, not means over seeds.
    """
    by_model: dict[str, list[SweepRun]] = {}
    for run in runs:
        by_model.setdefault(run.model, []).append(run)
    names = dict.fromkeys(name for run in runs for name in run.cells if name)
    speed, left = _speed(runs), remaining_work(runs)
    best = (_best(model, members, each_run) for model, members in by_model.items())
    return Overview(
        all=_tally(runs, _all_cells),
        models={model: _tally(members, _all_cells) for model, members in by_model.items()},
        sets={name: _tally(runs, _cells_of(name)) for name in names},
        best=[run for run in best if run],
        speed=speed,
        left=left,
        seconds_left=seconds_until_done(left, speed.running - speed.silent),
        failures=failures(run.snapshot for run in runs if run.state == State.FAILED),
        queue=None if queued is None else _queued(queued),
        wasted_device_hours=wasted_seconds([run.snapshot for run in runs]) / 3600,
        outside=outside,
        precisions=dict(precisions or {}),
    )


def _tally(runs: Iterable[SweepRun], cells: Callable[[SweepRun], int]) -> StateCounts:
    of_cells, of_trainings = Counter[State](), Counter[State]()
    for run in runs:
        if count := cells(run):
            of_cells[run.state] += count
            of_trainings[run.state] += 1
    return StateCounts(
        *({state: counts[state] for state in State} for counts in (of_cells, of_trainings))
    )


def _all_cells(run: SweepRun) -> int:
    return sum(run.cells.values())


def _cells_of(name: str) -> Callable[[SweepRun], int]:
    return lambda run: run.cells.get(name, 0)


def _best(model: str, members: Iterable[SweepRun], each_run: bool) -> BestRun | None:
    finished = [run for run in members if run.snapshot.validation_accuracy is not None]
    groups = [[run] for run in finished] if each_run else _by_configuration(finished)
    configurations = (_mean_run(model, runs) for runs in groups)
    return max(configurations, key=lambda run: run.val_accuracy, default=None)


def _by_configuration(finished: Sequence[SweepRun]) -> Iterator[list[SweepRun]]:
    """Runs that differ in their seed alone, or in what changes no result."""
    by_name: dict[str, list[SweepRun]] = {}
    for run in finished:
        by_name.setdefault(run_name(run.snapshot.path), []).append(run)
    for runs in by_name.values():
        by_id: dict[str, list[SweepRun]] = {}
        groups = list(_by_config_text(runs))
        for same in groups:
            config = same[0].config() if len(groups) > 1 else None
            by_id.setdefault(config.config_id if config else same[0].run_id, []).extend(same)
        yield from by_id.values()


def _by_config_text(runs: Sequence[SweepRun]) -> Iterable[list[SweepRun]]:
    """Runs whose config files differ in the seed alone: of thousands, few need to be parsed."""
    by_text: dict[bytes, list[SweepRun]] = {}
    for run in runs:
        try:
            text = _SEED.sub(b"", files.read_bytes(run.snapshot.path / CONFIG))
        except OSError:
            text = run.run_id.encode()
        by_text.setdefault(text, []).append(run)
    return by_text.values()


def _mean_run(model: str, runs: Sequence[SweepRun]) -> BestRun:
    best = max(runs, key=lambda run: run.snapshot.validation_accuracy or 0.0)
    validations = [value for run in runs if (value := run.snapshot.validation_accuracy) is not None]
    tests = [run.snapshot.result[TEST_ACCURACY] for run in runs if run.snapshot.result]
    means = fmean(validations), fmean(tests)
    deviation = stdev(validations) if len(validations) > 1 else None
    return BestRun(model, run_name(best.snapshot.path), best.run_id, *means, len(runs), deviation)


def _speed(runs: Iterable[SweepRun]) -> Throughput:
    running = [run for run in runs if run.state == State.RUNNING]
    live = [run for run in running if not _is_silent(run)]
    rates = [rate for run in live if (rate := _images_per_second(run))]
    return Throughput(len(running), len(running) - len(live), len(rates), sum(rates) or None)


def _is_silent(run: SweepRun) -> bool:
    age = time.time() - run.snapshot.attempts[-1].written
    return age > leases.MISSED_HEARTBEATS * leases.HEARTBEAT_SECONDS


def _images_per_second(run: SweepRun) -> float | None:
    config = run.config()
    recent = run.snapshot.epoch_seconds[-_RECENT_EPOCHS:]
    if config is None or not sum(recent):
        return None
    return images_of(config).train * len(recent) / sum(recent)


def _queued(queued: Mapping[str, Job]) -> QueueSummary:
    own = [job for job in distinct(queued) if job.is_ours]
    reasons = Counter(job.reason for job in own if job.state == JobState.PENDING)
    active = sum(job.state == JobState.ACTIVE for job in own)
    stranded = tuple(sorted(job.id for job in own if job.is_stranded))
    return QueueSummary(active, reasons.total(), dict(reasons.most_common()), stranded)
