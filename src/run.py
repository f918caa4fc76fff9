"""The whole flow, on one page: configs -> data -> models -> training -> run folders."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from src import data, models
from src.common import files
from src.common.errors import Stopped, SweepStopped
from src.common.git import git_commit
from src.common.paths import RUNS_DIR
from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.data.split import check_split
from src.faults.circuit_breaker import find_repeated_failure
from src.faults.failure_classes import FailureClass, affects_every_run, classify
from src.faults.node_health import raise_if_node_failed, reporting_node_failures
from src.runs import leases
from src.runs.history import HistoryFile
from src.runs.publish import fail, publish
from src.runs.run_folder import RunFolder, State
from src.sweep.pruner import Judge
from src.tracking.wandb_process import WandbProcess
from src.training import group, initial_weights
from src.training.concurrency import concurrency_for
from src.training.console import ProgressDisplay, SilentDisplay
from src.training.device import pick_device
from src.training.tracker import Trackers
from src.training.trainer import Trainer

_ABANDONED_SECONDS = 60.0  # that a half-written file of a run's earlier writer is not touched


@dataclass(frozen=True)
class Outcome:
    """Where a run stands after `run`: its numbers where it is done or pruned, or what broke it."""

    config: RunConfig
    folder: Path
    state: State
    result: dict[str, Any] | None
    failure: dict[str, Any] | None


@dataclass(frozen=True, eq=False)
class _Job:
    """A run that is to be trained, by its place in the queue (from 1)."""

    number: int
    config: RunConfig
    folder: RunFolder
    failure: dict[str, Any] | None
    """What had broken it before."""


@dataclass(frozen=True)
class _Call:
    """What all runs of a call have in common."""

    resident: Callable[[RunConfig], DeviceDataset]
    shown: ProgressDisplay
    slots: int | None
    stop: Callable[[], bool]
    judge: Judge | None
    mirror: WandbProcess | None
    folders: Sequence[RunFolder]
    """Of all of them, those that are done too."""
    runs_dir: Path


def run(
    configs: Sequence[RunConfig],
    *,
    runs_dir: Path = RUNS_DIR,
    slots: int | None = None,
    progress: Callable[[int], ProgressDisplay] = lambda total: SilentDisplay(),
    stop: Callable[[], bool] = lambda: False,
    retry_failed: bool = False,
    retries: int | None = None,
    judge: Judge | None = None,
    mirror: WandbProcess | None = None,
    datasets: dict[str, data.Dataset] | None = None,
) -> list[Outcome]:
    """Train what is not done yet of `configs`, `slots` runs at a time; one outcome for each config.

    slots: None for as many as is found to be worth it on a GPU; one on a CPU.
    Configs with the same id are one training. A run that diverged, or of which more than
    `retries` attempts failed, is not tried again unless retry_failed; nor is one that another
    process fails meanwhile. judge: stop early the runs that it calls hopeless; without one, runs
    that were stopped so are trained to their end. mirror: hears how each goes. datasets: by path,
    those that need not be loaded again; what is loaded now is added. Raises UserError before
    anything is trained or written where a config cannot work; Stopped, with everything saved, once
    stop() is true; DiskFull where something does not fit; NodeTrouble where this machine fails
    runs; and SweepStopped where several of `configs` break with the same traceback, also before
    anything is trained unless retry_failed.
    """
    git_commit()  # that of the code as it is now
    folders = [RunFolder.of(config, runs_dir) for config in configs]
    given_up = [not retry_failed and folder.is_given_up(retries) for folder in folders]
    todo = _jobs(configs, folders, given_up, skip_pruned=judge is not None)
    if todo and not retry_failed and (alike := find_repeated_failure(folders)):
        raise alike.stopped()
    with reporting_node_failures(runs_dir):
        resident = _load(todo, {} if datasets is None else datasets)
        for config, folder in zip(configs, folders, strict=True):
            folder.register(config)
            folder.remove_leftovers()
        if todo:
            gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
            with torch.random.fork_rng(gpus), progress(len(todo)) as shown:
                _train(todo, _Call(resident, shown, slots, stop, judge, mirror, folders, runs_dir))
    return [_outcome(config, folder) for config, folder in zip(configs, folders, strict=True)]


def _jobs(
    configs: Sequence[RunConfig],
    folders: Sequence[RunFolder],
    given_up: Sequence[bool],
    *,
    skip_pruned: bool,
) -> list[_Job]:
    """What is to be trained, each training once, in the order given."""
    unique = {item[0].id: item for item in zip(configs, folders, given_up, strict=True)}
    waiting = [
        (config.canonical(), folder, folder.failure())
        for config, folder, hopeless in unique.values()
        if not hopeless and folder.result() is None and not (skip_pruned and folder.pruned())
    ]
    return [_Job(number, *item) for number, item in enumerate(waiting, 1)]


def _load(
    jobs: list[_Job], datasets: dict[str, data.Dataset]
) -> Callable[[RunConfig], DeviceDataset]:
    """The data of every job, loaded once and checked against every config."""
    resident: dict[tuple[str, str], DeviceDataset] = {}
    for config in (job.config for job in jobs):
        path, device = config.base_dataset_path, pick_device(config.device)
        models.check_options(config.model_type, models.options_of(config))
        initial_weights.check_initial_weights(config)
        if path not in datasets:
            datasets[path] = data.load(path)
        check_split(datasets[path], config)
        if (path, device.type) not in resident:
            resident[path, device.type] = DeviceDataset.put(datasets[path], device)
    return lambda config: resident[config.base_dataset_path, pick_device(config.device).type]


def _train(jobs: list[_Job], call: _Call) -> None:
    """Train what is free, then, as long as there is some, what others have left behind."""
    before: list[_Job] = []
    elsewhere = _train_free(jobs, {}, call)
    while elsewhere and elsewhere != before:
        dead = leases.wait_for_stalled([job.folder.path for job in elsewhere], call.stop)
        before, elsewhere = elsewhere, _train_free(elsewhere, dead, call)
    for job in elsewhere:
        call.shown.ended(job.number, f"{job.config.name}: being trained by another process")


def _train_free(jobs: list[_Job], dead: Mapping[Path, leases.Record], call: _Call) -> list[_Job]:
    """Train the jobs that nobody else is at; the others. dead: attempts known to be over."""
    claims: dict[_Job, leases.Lease] = {}
    training: dict[Trainer, _Job] = {}
    elsewhere: list[_Job] = []
    alike: SweepStopped | None = None

    def queue() -> Iterator[Trainer]:
        for job in jobs:
            lease = _claim(job, dead.get(job.folder.path), call.judge)
            if lease is None:
                if _is_over(job, call.judge):
                    call.shown.ended(job.number, f"{job.config.name}: ended by another process")
                else:
                    elsewhere.append(job)
                continue
            claims[job] = lease
            trainer = _trainer(job, lease, call)
            training[trainer] = job
            yield trainer

    def stop() -> bool:
        return alike is not None or call.stop()

    width = concurrency_for(call.slots, _device(jobs))
    try:
        for finished in group.train(queue(), slots=width, stop=stop, say=call.shown.note):
            job = training.pop(finished.trainer)
            call.shown.ended(job.number, _close(job, claims[job], finished, call))
            del claims[job]
            alike = _alike(finished, call.folders)
    except Stopped:
        if alike and not call.stop():
            raise alike from None
        raise
    finally:
        for trainer in training:
            trainer.close()
        for lease in claims.values():
            with suppress(OSError):  # it is seen by the process that is gone
                lease.end("stopped")
    return elsewhere


def _alike(finished: group.Finished, folders: Sequence[RunFolder]) -> SweepStopped | None:
    """Why to stop after a run that broke as others have."""
    if finished.error is None or classify(finished.error) is not FailureClass.OTHER:
        return None
    found = find_repeated_failure(folders)
    return found.stopped() if found else None


def _device(jobs: list[_Job]) -> torch.device:
    return pick_device(jobs[0].config.device if jobs else "cpu")


def _is_over(job: _Job, judge: Judge | None) -> bool:
    """Whether a run has ended, well or not, since we began or before."""
    folder = job.folder
    if folder.result() is not None or (judge is not None and folder.pruned() is not None):
        return True
    return folder.failure() not in (None, job.failure)


def _claim(job: _Job, dead: leases.Record | None, judge: Judge | None) -> leases.Lease | None:
    """Make a run ours; None where it is over, or another process may be at it."""
    if _is_over(job, judge):
        return None
    lease = leases.acquire(job.folder.path, known_dead=dead)
    if lease and _is_over(job, judge):  # since we looked
        lease.end("unneeded")
        return None
    if lease:
        files.remove_leftovers(job.folder.path, old_seconds=_ABANDONED_SECONDS)
        job.folder.forget_outcome()
    return lease


def _trainer(job: _Job, lease: leases.Lease, call: _Call) -> Trainer:
    shown, judge, name = call.shown, call.judge, job.config.name
    mirrored = [call.mirror.run(job.folder)] if call.mirror else []
    return Trainer(
        job.config,
        call.resident(job.config),
        folder=job.folder.path,
        tracker=Trackers(
            HistoryFile(job.folder, lease), shown.run(job.config, job.number), *mirrored
        ),
        should_prune=lambda rows: judge is not None and judge.should_prune(job.config, rows),
        on_resume=lambda epochs, steps: shown.note(
            f"{name}: goes on after {epochs} epochs, {steps} steps"
        ),
        opened=False,
    )


def _close(job: _Job, lease: leases.Lease, finished: group.Finished, call: _Call) -> str:
    """Put on disk how a run ended; a line about it. Raises NodeTrouble where that is why."""
    line = _published(job, lease, finished, call.runs_dir)
    if call.mirror:
        call.mirror.over(job.folder)
    return line


def _published(job: _Job, lease: leases.Lease, finished: group.Finished, runs_dir: Path) -> str:
    error = finished.error
    if error is None:
        try:
            return _told(job.config, publish(finished.trainer, job.folder, lease))
        except Exception as failed:
            if affects_every_run(failed):
                raise
            error = failed
    line = fail(job.config, job.folder, lease, error)
    raise_if_node_failed(error, runs_dir)
    return line


def _told(config: RunConfig, result: Mapping[str, Any]) -> str:
    return (
        f"{config.name}: validation accuracy {result['best_val_accuracy']:.2%}, "
        f"test accuracy {result['test_accuracy_best_val_acc']:.2%} "
        f"({result['epochs_run']} epochs, {result['stop_reason']})"
    )


def _outcome(config: RunConfig, folder: RunFolder) -> Outcome:
    numbers = folder.result() or folder.pruned()
    return Outcome(config, folder.path, folder.state(), numbers, folder.failure())
