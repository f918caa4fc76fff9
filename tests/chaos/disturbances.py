"""Disturbances of a sweep; each returns its figures or raises GuaranteeViolated."""

import errno
import multiprocessing
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from src.common import files, paths, processes
from src.config import RunConfig
from src.runs import leases
from src.runs.run_folder import RunFolder
from src.training import checkpoint
from tests.chaos import failpoints, harness
from tests.chaos.failpoints import Fault
from tests.chaos.harness import GuaranteeViolated, WorkerProcess

Figures = dict[str, int]

_PATIENCE_SECONDS = 60.0
_QUIET_SECONDS = 600.0  # no heartbeats, so that file operations are the same every time
_TOGETHER = 25  # number of folders finished by one undisturbed worker
_CLAIMANTS = 8
_STOPPED = 3  # exit status after a stop signal with everything saved


def kills(folder: Path, *, runs: int, kills: int, workers: int = 2, seed: int = 0) -> Figures:
    """Kill workers that share a sweep with SIGKILL, at random times after they began to train."""
    rng = random.Random(seed)
    configs = harness.sweep(runs, epochs=max(2, kills * 3 // runs))
    undisturbed, disturbed, log = (
        folder / "calm",
        harness.empty_folder(folder / "disturbed"),
        folder / "log",
    )
    started = time.perf_counter()
    harness.finish(configs, log, undisturbed)
    # short enough that most workers have work left
    lifetime = 1.2 * (time.perf_counter() - started) / kills
    killed = lives = 0
    while killed < kills and not _all_done(configs, disturbed):
        worker_processes = [
            WorkerProcess(harness.worker(configs, disturbed), log) for _ in range(workers)
        ]
        lives += workers
        training = [process for process in worker_processes if process.has_started()]
        for process in training:
            time.sleep(rng.uniform(0, lifetime))
            process.kill()
        for process in worker_processes:
            status = process.ended()
            if status not in (harness.KILLED, harness.SUCCEEDED):
                raise GuaranteeViolated(
                    f"a worker ended with status {status}:\n{log.read_text()[-3000:]}"
                )
            killed += process in training and status == harness.KILLED
    harness.finish(configs, log, disturbed)
    harness.require_same_results(disturbed, undisturbed, configs)
    return {"runs": runs, "kills": killed, "lives": lives + 1}


def _all_done(configs: Sequence[RunConfig], runs_dir: Path) -> bool:
    return all(RunFolder.of(config, runs_dir).result() for config in configs)


def every_failpoint(
    folder: Path, of: Callable[[str], bool] = lambda point: True, *, after: bool = True
) -> Figures:
    """Kill a worker before and after every file operation, and let each fail with ENOSPC.

    of: selects the points.
    after: also kill after an operation, when the files are as before the next one.
    """
    configs = harness.sweep(1)
    undisturbed, log, points_file = folder / "calm", folder / "log", folder / "points"
    first = harness.empty_folder(folder / "recorded")
    _run_worker_with(failpoints.recorded(first, points_file), configs, first, log)
    points = [point for point in points_file.read_text().splitlines() if of(point)]
    harness.finish(configs, log, undisturbed)
    _require_synced(points_file.read_text().splitlines())
    faults = [fault for point in points for fault in _faults(point) if after or not fault.after]
    for start in range(0, len(faults), _TOGETHER):
        _fail_at(faults[start : start + _TOGETHER], configs, folder, undisturbed)
    tables = _fail_aggregating(folder / "tables", undisturbed, log)
    return {
        "points": len(points) + tables,
        "kills": sum(not fault.error for fault in faults) + 2 * tables,
        "full disks": sum(bool(fault.error) for fault in faults),
    }


def _faults(point: str) -> Iterator[Fault]:
    yield Fault(point)
    yield Fault(point, after=True)
    if point.split()[0] in ("write", "fsync", "link", "mkdir"):  # operations that need disk space
        yield Fault(point, error=errno.ENOSPC)


def _fail_at(
    faults: Sequence[Fault], configs: Sequence[RunConfig], folder: Path, undisturbed: Path
) -> None:
    """Inject each fault into a worker in a separate folder, then finish and compare the runs."""
    log = folder / "log"
    ends: list[Path] = []
    for number, fault in enumerate(faults):
        runs_dir = harness.empty_folder(folder / "points.d" / str(number))
        ends.append(runs_dir)
        reached = folder / "reached"
        reached.unlink(missing_ok=True)
        status = _run_worker_with(
            failpoints.failing(runs_dir, fault, reached), configs, runs_dir, log
        )
        expected = status not in (0, harness.KILLED) if fault.error else status == harness.KILLED
        if not reached.exists() or not (expected or _may_fail(fault, status)):
            raise GuaranteeViolated(f"{fault}: status {status}, reached: {reached.exists()}")
        leftovers = list(runs_dir.rglob(f"{paths.TEMPORARY_PREFIX}*"))
        if fault.error and leftovers:
            raise GuaranteeViolated(f"{fault}: left behind: {leftovers[0]}")
    harness.finish(configs, log, *ends)
    for fault, runs_dir in zip(faults, ends, strict=True):
        try:
            harness.require_same_results(runs_dir, undisturbed, configs)
        except GuaranteeViolated as error:
            raise GuaranteeViolated(f"{fault}: {error}") from None
    shutil.rmtree(folder / "points.d")


def _may_fail(fault: Fault, status: int) -> bool:
    """Return whether the worker may succeed: a single failed heartbeat does not stop it."""
    return bool(fault.error) and status == 0 and paths.ATTEMPTS in fault.point


def _fail_aggregating(folder: Path, undisturbed: Path, log: Path) -> int:
    """Kill an aggregator before and after every file operation; return the number of points.

    The table must be the old or the new one.
    """
    points_file, table, new = (
        folder / "points",
        folder / "at" / "table.csv",
        harness.table(undisturbed),
    )

    def aggregator(points: failpoints.Points) -> WorkerProcess:
        def work() -> None:
            points.install()
            harness.write_table(undisturbed, table)

        harness.empty_folder(table.parent)
        table.write_bytes(b"old")
        return WorkerProcess(work, log)

    harness.empty_folder(folder)
    if aggregator(failpoints.recorded(table.parent, points_file)).ended():
        raise GuaranteeViolated(log.read_text()[-3000:])
    points = points_file.read_text().splitlines()
    for fault in (Fault(point, after) for point in points for after in (False, True)):
        ended = aggregator(failpoints.failing(table.parent, fault, folder / "reached")).ended()
        if ended != harness.KILLED or table.read_bytes() not in (b"old", new):
            raise GuaranteeViolated(
                f"{fault}: status {ended}, and the table is neither the old nor the new"
            )
        harness.write_table(undisturbed, table)
        if table.read_bytes() != new or len(list(table.parent.iterdir())) > 1:
            raise GuaranteeViolated(f"{fault}: the next table is wrong, or files are left behind")
    return len(points)


def _run_worker_with(
    points: failpoints.Points, configs: Sequence[RunConfig], runs_dir: Path, log: Path
) -> int:
    def work() -> None:
        points.install()
        leases.HEARTBEAT_SECONDS = _QUIET_SECONDS
        harness.worker(configs, runs_dir)()

    return WorkerProcess(work, log).ended()


def _require_synced(points: Sequence[str]) -> None:
    """Check that files are synced before they are renamed, and their folder afterwards."""
    events = [point.rpartition(" #")[0] for point in points]
    for place, event in enumerate(events):
        what, _, path = event.partition(" ")
        if what not in ("replace", "link") or path.endswith(paths.RESUME_BEFORE):
            continue
        inside = path.rpartition("/")[0]
        written = max(n for n, before in enumerate(events[:place]) if before == f"write {path}")
        if f"fsync {inside}/{paths.TEMPORARY_PREFIX}*" not in events[written:place]:
            raise GuaranteeViolated(f"{event}: not synced before")
        if f"fsync {inside}" not in events[place:]:
            raise GuaranteeViolated(f"{event}: its folder is not synced")


def damage(folder: Path, *, cuts: int, flips: int, resumed: int = 10, seed: int = 0) -> Figures:
    """Truncate resume checkpoints and flip bits; damage must be detected and results the same."""
    rng = random.Random(seed)
    configs, log, undisturbed = harness.sweep(1), folder / "log", folder / "calm"
    harness.finish(configs, log, undisturbed)
    half = harness.empty_folder(folder / "half")
    _stop_half_way(configs, half, log)
    path = RunFolder.of(configs[0], half).path / paths.RESUME
    complete = path.read_bytes()
    damaged = [complete[: rng.randrange(len(complete))] for _ in range(cuts)]
    for _ in range(flips):
        place, bit = rng.randrange(len(complete)), 1 << rng.randrange(8)
        damaged.append(complete[:place] + bytes([complete[place] ^ bit]) + complete[place + 1 :])
    for data in damaged:
        path.write_bytes(data)
        if _is_read(path):
            raise GuaranteeViolated("a damaged checkpoint was accepted")
    for number, data in enumerate(rng.sample(damaged, resumed)):
        runs_dir = folder / "damaged" / str(number)
        shutil.copytree(half, runs_dir)
        copy = runs_dir / path.relative_to(half)
        copy.write_bytes(data)
        if number % 2:
            # then no valid checkpoint is left
            copy.with_name(paths.RESUME_BEFORE).write_bytes(data)
        harness.finish(configs, log, runs_dir)
        harness.require_same_results(runs_dir, undisturbed, configs)
    return {"cuts": cuts, "flips": flips, "rejected": len(damaged), "resumed": resumed}


def _is_read(path: Path) -> bool:
    try:
        return checkpoint.read(path, torch.device("cpu")) is not None
    except Exception:  # noqa: BLE001  any exception would fail the run
        raise GuaranteeViolated("a damaged checkpoint raises an error") from None


def _stop_half_way(configs: Sequence[RunConfig], runs_dir: Path, log: Path) -> None:
    """Stop a run so that both of its resume checkpoints exist."""
    name = f"{RunFolder.of(configs[0], runs_dir).path.relative_to(runs_dir)}/{paths.RESUME}"
    fault = Fault(f"replace {name} #2", after=True)
    points = failpoints.failing(runs_dir, fault, runs_dir.parent / "reached")
    if _run_worker_with(points, configs, runs_dir, log) != harness.KILLED:
        raise GuaranteeViolated("the run ended before its second checkpoint")


def claims(folder: Path, *, rounds: int) -> Figures:
    """Let eight processes lease the same abandoned run at once; exactly one must get it."""
    barrier = multiprocessing.get_context("fork").Barrier(_CLAIMANTS)
    folders = [_abandoned(harness.empty_folder(folder / str(number))) for number in range(rounds)]

    def claimant(number: int) -> None:
        for place in folders:
            barrier.wait(_PATIENCE_SECONDS)
            lease = leases.acquire(place)
            if lease:
                (place / f"winner-{number}").touch()
            barrier.wait(_PATIENCE_SECONDS)
            if lease:
                lease.end("stopped")

    lives = [
        WorkerProcess(lambda number=number: claimant(number), folder / "log")  # type: ignore[misc]
        for number in range(_CLAIMANTS)
    ]
    ends = [worker.ended() for worker in lives]
    if any(ends):
        raise GuaranteeViolated(
            f"claimants ended with {ends}:\n{(folder / 'log').read_text()[-3000:]}"
        )
    winners = Counter(len(list(place.glob("winner-*"))) for place in folders)
    if set(winners) != {1}:
        raise GuaranteeViolated(f"winners of a round: {dict(winners)}")
    return {"rounds": rounds, "processes": _CLAIMANTS, "double winners": 0}


def _abandoned(folder: Path) -> Path:
    """Create a run whose first attempt belongs to a dead process."""
    (folder / paths.ATTEMPTS).mkdir()
    record = {"attempt": 1, "process": {**processes.identity(), "start": 0.0}, "heartbeat": 3}
    files.write_json(folder / paths.ATTEMPTS / "1.json", record)
    return folder


def signals(folder: Path, *, bursts: int, seed: int = 0) -> Figures:
    """Send bursts of stop signals while checkpoints are written.

    A worker must end either as stopped with everything saved, or as done with all runs finished.
    """
    rng = random.Random(seed)
    configs = [replace(config, num_epochs=30) for config in harness.sweep(2)]
    log, undisturbed, runs_dir = (
        folder / "log",
        folder / "calm",
        harness.empty_folder(folder / "runs"),
    )
    harness.finish(configs, log, undisturbed)
    stopped = sent = 0
    for _ in range(bursts):
        worker = WorkerProcess(harness.worker(configs, runs_dir), log)
        if not worker.has_started():
            worker.ended()
            break
        time.sleep(rng.uniform(0, 0.1))
        for _ in range(50):
            worker.kill(rng.choice([signal.SIGTERM, signal.SIGUSR1]))
            time.sleep(0.0005)
            sent += 1
        status = worker.ended()
        stopped += status == _STOPPED
        if status == 0 and not _all_done(configs, runs_dir):
            raise GuaranteeViolated("a worker ended with status 0 although runs are unfinished")
        if status not in (0, _STOPPED):
            raise GuaranteeViolated(
                f"a worker ended with status {status}:\n{log.read_text()[-3000:]}"
            )
    if not stopped:
        raise GuaranteeViolated("no worker was stopped: nothing was tested")
    harness.finish(configs, log, runs_dir)
    harness.require_same_results(runs_dir, undisturbed, configs)
    return {"signals": sent, "stops": stopped}


def small_disk(folder: Path, *, sizes: int) -> Figures:
    """Train on file systems that are too small; workers stop cleanly and continue with more space.

    Raises PermissionError if mounting is not allowed.
    """
    configs, log, undisturbed = harness.sweep(3), folder / "log", folder / "calm"
    harness.finish(configs, log, undisturbed)
    full = 0
    for number in range(sizes):
        kilobytes = 24 + 12 * number
        with _mounted(folder / "disk", kilobytes) as disk:
            runs_dir = disk / "runs"
            log_length = len(log.read_text())
            status = WorkerProcess(harness.worker(configs, runs_dir), log).ended()
            new_log = log.read_text()[log_length:]
            if status not in (0, 1) or (status == 1 and "No space left" not in new_log):
                raise GuaranteeViolated(f"{kilobytes} kB: status {status}: {new_log[-3000:]}")
            leftovers = list(disk.rglob(f"{paths.TEMPORARY_PREFIX}*"))
            if leftovers:
                raise GuaranteeViolated(f"{kilobytes} kB: left behind: {leftovers[0]}")
            full += status
            _mount("remount,size=64m", disk)
            harness.finish(configs, log, runs_dir)
            shutil.copytree(runs_dir, folder / "after")
        harness.require_same_results(folder / "after", undisturbed, configs)
        shutil.rmtree(folder / "after")
    if not full:
        raise GuaranteeViolated("no file system was too small: nothing was tested")
    return {"file systems": sizes, "full": full}


@contextmanager
def _mounted(place: Path, kilobytes: int) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    _mount(f"size={kilobytes}k", place)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True, timeout=60)


def _mount(options: str, place: Path) -> None:
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise PermissionError(f"{' '.join(words)}: {done.stderr.strip()}")
