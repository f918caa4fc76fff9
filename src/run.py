"""The whole flow, on one page: configs -> data -> models -> training -> run folders."""

import platform
import subprocess
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from src import data, models
from src.config import CHECKPOINT_KINDS, RunConfig
from src.data.resident import ResidentData
from src.data.split import check_split
from src.errors import Superseded
from src.paths import ROOT, RUNS_DIR
from src.progress import Progress, Silence
from src.results import attempts
from src.results.store import RunFolder, State
from src.results.tracking import HistoryFile
from src.training import checkpoint, group
from src.training.precision import device_name, pick_device
from src.training.tracker import Trackers
from src.training.trainer import NonFiniteLoss, Trained, Trainer


@dataclass(frozen=True)
class Outcome:
    """Where a run stands after `run`; its result where it is done, what broke it if failed."""

    config: RunConfig
    folder: Path
    state: State
    result: dict[str, Any] | None
    failure: dict[str, Any] | None


@dataclass(frozen=True)
class _Job:
    """A run that is to be trained, by its place in the queue (from 1)."""

    number: int
    config: RunConfig
    folder: RunFolder


@dataclass(frozen=True)
class _Open(_Job):
    """A run that we have claimed."""

    claim: attempts.Claim


def run(
    configs: Sequence[RunConfig],
    *,
    runs_dir: Path = RUNS_DIR,
    slots: int = 1,
    progress: Callable[[int], Progress] = lambda total: Silence(),
    stop: Callable[[], bool] = lambda: False,
    retry_failed: bool = False,
) -> list[Outcome]:
    """Train what is not done yet of `configs`, `slots` runs at a time; one outcome for each config.

    Configs with the same id are one training. A run that diverged is not tried again unless
    retry_failed. Raises UserError before anything is trained or written where a config cannot
    work, and Stopped, with everything saved, once stop() is true.
    """
    folders = [RunFolder.of(config, runs_dir) for config in configs]
    todo = _jobs(configs, folders, retry_failed)
    resident = _load(todo)
    for config, folder in zip(configs, folders, strict=True):
        folder.register(config)
    if todo:
        with torch.random.fork_rng(), progress(len(todo)) as shown:
            _train(todo, resident, shown, slots, stop)
    return [_outcome(config, folder) for config, folder in zip(configs, folders, strict=True)]


def _jobs(configs: Sequence[RunConfig], folders: list[RunFolder], retry: bool) -> list[_Job]:
    """What is to be trained, each training once, in the order given."""
    unique = {config.id: (config, f) for config, f in zip(configs, folders, strict=True)}
    waiting = [
        (config.canonical(), folder)
        for config, folder in unique.values()
        if folder.result() is None and (retry or not _is_hopeless(folder))
    ]
    return [_Job(number, *item) for number, item in enumerate(waiting, 1)]


def _is_hopeless(folder: RunFolder) -> bool:
    return not (folder.failure() or {"retry": True}).get("retry", True)


def _load(jobs: list[_Job]) -> Callable[[RunConfig], ResidentData]:
    """The data of every job, loaded once and checked against every config."""
    resident: dict[tuple[str, str], ResidentData] = {}
    datasets: dict[str, data.Dataset] = {}
    for config in (job.config for job in jobs):
        path, device = config.base_dataset_path, pick_device(config.device)
        models.check_options(config.model_type, models.options_of(config))
        if path not in datasets:
            datasets[path] = data.load(path)
        check_split(datasets[path], config)
        if (path, device.type) not in resident:
            resident[path, device.type] = ResidentData.put(datasets[path], device)
    return lambda config: resident[config.base_dataset_path, pick_device(config.device).type]


def _train(
    jobs: list[_Job],
    resident: Callable[[RunConfig], ResidentData],
    shown: Progress,
    slots: int,
    stop: Callable[[], bool],
) -> None:
    """Train what is free, then what others have left behind without saying so."""
    elsewhere = _train_free(jobs, {}, resident, shown, slots, stop)
    dead = attempts.standing_still([job.folder.path for job in elsewhere], stop)
    for job in _train_free(elsewhere, dead, resident, shown, slots, stop):
        shown.ended(job.number, f"{job.config.name}: being trained by another process")


def _train_free(
    jobs: list[_Job],
    dead: Mapping[Path, attempts.Record],
    resident: Callable[[RunConfig], ResidentData],
    shown: Progress,
    slots: int,
    stop: Callable[[], bool],
) -> list[_Job]:
    """Train the jobs that nobody else is at; the others. dead: attempts known to be over."""
    opened: dict[Trainer, _Open] = {}
    elsewhere: list[_Job] = []

    def queue() -> Iterator[Trainer]:
        for job in jobs:
            path = job.folder.path
            done = job.folder.result() is not None
            claim = None if done else attempts.claim(path, known_dead=dead.get(path))
            if claim and job.folder.result():  # since we looked
                claim.end("done")
                done = True
            if done:
                shown.ended(job.number, f"{job.config.name}: done by another process")
                continue
            if claim is None:
                elsewhere.append(job)
                continue
            run = _Open(**vars(job), claim=claim)
            tracker = Trackers(HistoryFile(job.folder, claim), shown.run(job.config, job.number))
            try:
                trainer = Trainer(job.config, resident(job.config), folder=path, tracker=tracker)
            except Exception as error:  # noqa: BLE001  whatever broke this run, the others go on
                shown.ended(job.number, _fail(run, error))
                continue
            opened[trainer] = run
            yield trainer

    try:
        for finished in group.train(queue(), slots=slots, stop=stop):
            run = opened.pop(finished.trainer)
            shown.ended(run.number, _close(run, finished))
    finally:
        for run in opened.values():
            run.claim.end("stopped")
    return elsewhere


def _close(run: _Open, finished: group.Finished) -> str:
    """Put on disk how a run ended; a line about it."""
    if finished.error:
        return _fail(run, finished.error)
    assert finished.trainer.trained
    try:
        run.claim.require()
        result = _publish(run, finished.trainer.trained, finished.trainer)
    except Superseded as error:
        return _fail(run, error)
    return (
        f"{run.config.name}: validation accuracy {result['best_val_accuracy']:.2%}, "
        f"test accuracy {result['test_accuracy_best_val_acc']:.2%} "
        f"({result['epochs_run']} epochs, {result['stop_reason']})"
    )


def _publish(run: _Open, trained: Trained, trainer: Trainer) -> dict[str, Any]:
    """Everything of a finished run; result.json last, which makes it done."""
    kept = {"best": CHECKPOINT_KINDS[:1], "all": CHECKPOINT_KINDS, "none": ()}
    for kind in kept[run.config.keep_checkpoints]:
        run.folder.write_weights(kind, trained.weights[kind])
    logits = trained.test.logits
    run.folder.write_predictions(
        labels=trained.test_labels.to(torch.uint8).cpu().numpy(),
        predictions=logits.argmax(dim=1).to(torch.uint8).cpu().numpy(),
        probabilities=logits.softmax(dim=1).half().cpu().numpy(),
        features=trained.test.features.half().cpu().numpy(),
    )
    result = {
        "run_id": run.config.id,
        **trained.numbers,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "device": device_name(trainer.data.device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "git_commit": git_commit(),
        "attempt": run.claim.number,
    }
    run.folder.write_result(result)
    checkpoint.remove(run.folder.path)
    run.claim.end("done")
    return result


def _fail(run: _Open, error: Exception) -> str:
    """Note what broke a run, unless it is no longer ours; a line about it."""
    if isinstance(error, Superseded):
        run.claim.end("superseded")
        return f"{run.config.name}: {error}"
    diverged = isinstance(error, NonFiniteLoss)
    kind = "non-finite loss" if diverged else type(error).__name__
    run.folder.write_failure(
        {
            "kind": kind,
            "message": str(error),
            "retry": not diverged,  # it would diverge again
            "attempt": run.claim.number,
            "traceback": "".join(traceback.format_exception(error)),
        }
    )
    if diverged:
        checkpoint.remove(run.folder.path)
    run.claim.end("failed")
    return f"{run.config.name}: FAILED: {kind}: {error}"


def _outcome(config: RunConfig, folder: RunFolder) -> Outcome:
    return Outcome(config, folder.path, folder.state(), folder.result(), folder.failure())


def git_commit() -> str | None:
    """The commit of this checkout, marked where files differ from it; None without git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
