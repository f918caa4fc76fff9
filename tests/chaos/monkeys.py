"""Ways to disturb a sweep. Each returns its figures, or raises Broken for a promise not kept."""

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
from tests.chaos import failpoints, world
from tests.chaos.failpoints import Fault
from tests.chaos.world import Broken, Life

Figures = dict[str, int]

_PATIENCE_SECONDS = 60.0
_QUIET_SECONDS = 600.0  # between heartbeats, where the same operations are to come every time
_TOGETHER = 25  # folders that one undisturbed worker finishes
_CLAIMANTS = 8
_STOPPED = 3  # the exit status of a worker that was asked to stop and has saved everything


def kills(folder: Path, *, runs: int, kills: int, workers: int = 2, seed: int = 0) -> Figures:
    """SIGKILL workers that share a sweep, each some time after it has begun to train."""
    chosen = random.Random(seed)
    configs = world.sweep(runs, epochs=max(2, kills * 3 // runs))
    calm, disturbed, log = folder / "calm", world.fresh(folder / "disturbed"), folder / "log"
    began = time.perf_counter()
    world.finish(configs, log, calm)
    life = 1.2 * (time.perf_counter() - began) / kills  # so that most of them find work left
    killed = lives = 0
    while killed < kills and not _all_done(configs, disturbed):
        team = [Life(world.worker(configs, disturbed), log) for _ in range(workers)]
        lives += workers
        begun = [one for one in team if one.has_started()]
        for one in begun:
            time.sleep(chosen.uniform(0, life))
            one.kill()
        for one in team:
            status = one.ended()
            if status not in (world.KILLED, world.ENDED_WELL):
                raise Broken(f"a worker ended with status {status}:\n{log.read_text()[-3000:]}")
            killed += one in begun and status == world.KILLED
    world.finish(configs, log, disturbed)
    world.same(disturbed, calm, configs)
    return {"runs": runs, "kills": killed, "lives": lives + 1}


def _all_done(configs: Sequence[RunConfig], runs_dir: Path) -> bool:
    return all(RunFolder.of(config, runs_dir).result() for config in configs)


def every_failpoint(folder: Path, of: Callable[[str], bool] = lambda point: True) -> Figures:
    """Kill a worker before and after every file operation, and fail each for want of space.

    of: which points, where not all.
    """
    configs = world.sweep(1)
    calm, log, noted = folder / "calm", folder / "log", folder / "points"
    first = world.fresh(folder / "recorded")
    _with(failpoints.recorded(first, noted), configs, first, log)
    points = [point for point in noted.read_text().splitlines() if of(point)]
    world.finish(configs, log, calm)
    _require_synced(noted.read_text().splitlines())
    faults = [fault for point in points for fault in _faults(point)]
    for start in range(0, len(faults), _TOGETHER):
        _fail_at(faults[start : start + _TOGETHER], configs, folder, calm)
    tables = _fail_aggregating(folder / "tables", calm, log)
    return {
        "points": len(points) + tables,
        "kills": sum(not fault.error for fault in faults) + 2 * tables,
        "full disks": sum(bool(fault.error) for fault in faults),
    }


def _faults(point: str) -> Iterator[Fault]:
    yield Fault(point)
    yield Fault(point, after=True)
    if point.split()[0] in ("write", "fsync", "link", "mkdir"):  # which take space
        yield Fault(point, error=errno.ENOSPC)


def _fail_at(
    faults: Sequence[Fault], configs: Sequence[RunConfig], folder: Path, calm: Path
) -> None:
    """Let a worker meet each fault in a folder of its own, then finish and look at all folders."""
    log = folder / "log"
    ends: list[Path] = []
    for number, fault in enumerate(faults):
        runs_dir = world.fresh(folder / "points.d" / str(number))
        ends.append(runs_dir)
        reached = folder / "reached"
        reached.unlink(missing_ok=True)
        status = _with(failpoints.failing(runs_dir, fault, reached), configs, runs_dir, log)
        expected = status not in (0, world.KILLED) if fault.error else status == world.KILLED
        if not reached.exists() or not (expected or _may_fail(fault, status)):
            raise Broken(f"{fault}: status {status}, reached: {reached.exists()}")
        left = list(runs_dir.rglob(f"{paths.TEMPORARY_PREFIX}*"))
        if fault.error and left:
            raise Broken(f"{fault}: left behind: {left[0]}")
    world.finish(configs, log, *ends)
    for fault, runs_dir in zip(faults, ends, strict=True):
        try:
            world.same(runs_dir, calm, configs)
        except Broken as error:
            raise Broken(f"{fault}: {error}") from None
    shutil.rmtree(folder / "points.d")


def _may_fail(fault: Fault, status: int) -> bool:
    """A heartbeat that could not be written is no reason to stop; the next one tells as well."""
    return bool(fault.error) and status == 0 and paths.ATTEMPTS in fault.point


def _fail_aggregating(folder: Path, calm: Path, log: Path) -> int:
    """Kill who writes a table before and after everything it does: the old one stays, or the new.

    How many points there were.
    """
    noted, table, new = folder / "points", folder / "at" / "table.csv", world.table(calm)

    def aggregator(points: failpoints.Points) -> Life:
        def work() -> None:
            points.install()
            world.write_table(calm, table)

        world.fresh(table.parent)
        table.write_bytes(b"old")
        return Life(work, log)

    world.fresh(folder)
    if aggregator(failpoints.recorded(table.parent, noted)).ended():
        raise Broken(log.read_text()[-3000:])
    points = noted.read_text().splitlines()
    for fault in (Fault(point, after) for point in points for after in (False, True)):
        ended = aggregator(failpoints.failing(table.parent, fault, folder / "reached")).ended()
        if ended != world.KILLED or table.read_bytes() not in (b"old", new):
            raise Broken(f"{fault}: status {ended}, and the table is neither the old nor the new")
        world.write_table(calm, table)
        if table.read_bytes() != new or len(list(table.parent.iterdir())) > 1:
            raise Broken(f"{fault}: the next table is not whole, or something is left behind")
    return len(points)


def _with(
    points: failpoints.Points, configs: Sequence[RunConfig], runs_dir: Path, log: Path
) -> int:
    def work() -> None:
        points.install()
        leases.HEARTBEAT_SECONDS = _QUIET_SECONDS
        world.worker(configs, runs_dir)()

    return Life(work, log).ended()


def _require_synced(points: Sequence[str]) -> None:
    """A file is synced before it is put in its place, and its folder afterwards."""
    events = [point.rpartition(" #")[0] for point in points]
    for place, event in enumerate(events):
        what, _, path = event.partition(" ")
        if what not in ("replace", "link") or path.endswith(paths.RESUME_BEFORE):
            continue
        inside = path.rpartition("/")[0]
        written = max(n for n, before in enumerate(events[:place]) if before == f"write {path}")
        if f"fsync {inside}/{paths.TEMPORARY_PREFIX}*" not in events[written:place]:
            raise Broken(f"{event}: not synced before")
        if f"fsync {inside}" not in events[place:]:
            raise Broken(f"{event}: its folder is not synced")


def damage(folder: Path, *, cuts: int, flips: int, resumed: int = 10, seed: int = 0) -> Figures:
    """Cut resume checkpoints and flip bits in them: that is noticed, and runs come out right."""
    chosen = random.Random(seed)
    configs, log, calm = world.sweep(1), folder / "log", folder / "calm"
    world.finish(configs, log, calm)
    half = world.fresh(folder / "half")
    _stop_half_way(configs, half, log)
    path = RunFolder.of(configs[0], half).path / paths.RESUME
    whole = path.read_bytes()
    damaged = [whole[: chosen.randrange(len(whole))] for _ in range(cuts)]
    for _ in range(flips):
        place, bit = chosen.randrange(len(whole)), 1 << chosen.randrange(8)
        damaged.append(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
    for data in damaged:
        path.write_bytes(data)
        if _is_read(path):
            raise Broken("a damaged checkpoint was taken for whole")
    for number, data in enumerate(chosen.sample(damaged, resumed)):
        runs_dir = folder / "damaged" / str(number)
        shutil.copytree(half, runs_dir)
        there = runs_dir / path.relative_to(half)
        there.write_bytes(data)
        if number % 2:
            there.with_name(paths.RESUME_BEFORE).write_bytes(data)  # then none is left
        world.finish(configs, log, runs_dir)
        world.same(runs_dir, calm, configs)
    return {"cuts": cuts, "flips": flips, "rejected": len(damaged), "resumed": resumed}


def _is_read(path: Path) -> bool:
    try:
        return checkpoint.read(path, torch.device("cpu")) is not None
    except Exception:  # noqa: BLE001  noticed, though not as it should be: a run would fail
        raise Broken("a damaged checkpoint raises an error") from None


def _stop_half_way(configs: Sequence[RunConfig], runs_dir: Path, log: Path) -> None:
    """Leave a run with both resume checkpoints."""
    name = f"{RunFolder.of(configs[0], runs_dir).path.relative_to(runs_dir)}/{paths.RESUME}"
    fault = Fault(f"replace {name} #2", after=True)
    points = failpoints.failing(runs_dir, fault, runs_dir.parent / "reached")
    if _with(points, configs, runs_dir, log) != world.KILLED:
        raise Broken("the run ended before its second checkpoint")


def claims(folder: Path, *, rounds: int) -> Figures:
    """Eight processes take over the same abandoned run at once, again and again: one has it."""
    barrier = multiprocessing.get_context("fork").Barrier(_CLAIMANTS)
    folders = [_abandoned(world.fresh(folder / str(number))) for number in range(rounds)]

    def claimant(me: int) -> None:
        for place in folders:
            barrier.wait(_PATIENCE_SECONDS)
            claim = leases.acquire(place)
            if claim:
                (place / f"winner-{me}").touch()
            barrier.wait(_PATIENCE_SECONDS)
            if claim:
                claim.end("stopped")

    lives = [Life(lambda me=me: claimant(me), folder / "log") for me in range(_CLAIMANTS)]  # type: ignore[misc]
    ends = [life.ended() for life in lives]
    if any(ends):
        raise Broken(f"claimants ended with {ends}:\n{(folder / 'log').read_text()[-3000:]}")
    winners = Counter(len(list(place.glob("winner-*"))) for place in folders)
    if set(winners) != {1}:
        raise Broken(f"winners of a round: {dict(winners)}")
    return {"rounds": rounds, "processes": _CLAIMANTS, "double winners": 0}


def _abandoned(folder: Path) -> Path:
    """A run whose first attempt is nobody's any more."""
    (folder / paths.ATTEMPTS).mkdir()
    record = {"attempt": 1, "process": {**processes.identity(), "start": 0.0}, "heartbeat": 3}
    files.write_json(folder / paths.ATTEMPTS / "1.json", record)
    return folder


def signals(folder: Path, *, bursts: int, seed: int = 0) -> Figures:
    """Bursts of the signals that ask to stop, while checkpoints are written.

    A worker ends only as one that was stopped, with everything saved, or that has done everything.
    """
    chosen = random.Random(seed)
    configs = [replace(config, num_epochs=30) for config in world.sweep(2)]
    log, calm, runs_dir = folder / "log", folder / "calm", world.fresh(folder / "runs")
    world.finish(configs, log, calm)
    stopped = sent = 0
    for _ in range(bursts):
        life = Life(world.worker(configs, runs_dir), log)
        if not life.has_started():
            life.ended()
            break
        time.sleep(chosen.uniform(0, 0.1))
        for _ in range(50):
            life.kill(chosen.choice([signal.SIGTERM, signal.SIGUSR1]))
            time.sleep(0.0005)
            sent += 1
        status = life.ended()
        stopped += status == _STOPPED
        if status == 0 and not _all_done(configs, runs_dir):
            raise Broken("a worker ended as if all was done, with work unfinished")
        if status not in (0, _STOPPED):
            raise Broken(f"a worker ended with status {status}:\n{log.read_text()[-3000:]}")
    if not stopped:
        raise Broken("no worker was stopped: this has shown nothing")
    world.finish(configs, log, runs_dir)
    world.same(runs_dir, calm, configs)
    return {"signals": sent, "stops": stopped}


def small_disk(folder: Path, *, sizes: int) -> Figures:
    """Train on file systems that are too small: workers stop cleanly, and go on with more space.

    Raises PermissionError where nobody may mount one here.
    """
    configs, log, calm = world.sweep(3), folder / "log", folder / "calm"
    world.finish(configs, log, calm)
    full = 0
    for number in range(sizes):
        kilobytes = 24 + 12 * number
        with _mounted(folder / "disk", kilobytes) as disk:
            runs_dir = disk / "runs"
            said = len(log.read_text())
            status = Life(world.worker(configs, runs_dir), log).ended()
            complaint = log.read_text()[said:]
            if status not in (0, 1) or (status == 1 and "No space left" not in complaint):
                raise Broken(f"{kilobytes} kB: status {status}: {complaint[-3000:]}")
            left = list(disk.rglob(f"{paths.TEMPORARY_PREFIX}*"))
            if left:
                raise Broken(f"{kilobytes} kB: left behind: {left[0]}")
            full += status
            _mount("remount,size=64m", disk)
            world.finish(configs, log, runs_dir)
            shutil.copytree(runs_dir, folder / "after")
        world.same(folder / "after", calm, configs)
        shutil.rmtree(folder / "after")
    if not full:
        raise Broken("no file system was too small: this has shown nothing")
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
