"""In a node of the rehearsal of NFS: claims, a stand-in for training, and readers.

python -m tests.chaos.nfs_guest FOLDER [reads]   does what tests/chaos/nfs.py asks for in FOLDER,
for ever. reads: it can read tables, for which it imports pandas beforehand.

Torch is too slow in an emulated machine. The stand-in calls what a worker calls to own a run and
to write its files, in the order of src/run.py and src/runs/publish.py; the files have a content
that follows from the run and the epoch, so that a reader knows what whatever it reads must be.
Times are shorter than a worker's, all by the same factor.
"""

import errno
import hashlib
import json
import os
import random
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from src.common import files, paths
from src.common.errors import LeaseLost
from src.common.temporary_files import remove_abandoned_files
from src.config import RunConfig
from src.faults.failure_classes import affects_every_run, classify
from src.runs import leases, run_queue
from src.runs.history import HistoryFile
from src.runs.run_folder import RunFolder
from src.runs.run_queue import LeasedRun, RunQueue

TOGETHER = 16
"""Claims that follow on one barrier."""

FASTER = 30
HEARTBEAT_SECONDS = leases.HEARTBEAT_SECONDS / FASTER
_ABANDONED_SECONDS = run_queue._ABANDONED_SECONDS / FASTER
_POLL_SECONDS = 0.2
_BARRIER_POLL_SECONDS = 0.01
_PATIENCE_SECONDS = 300.0
_JITTER_SECONDS = 0.03  # or the last at a barrier would be first behind it
_CHECKPOINT_BYTES = 64 * 1024
_DIGEST_BYTES = 32
_ENDED, _FAILED = 0, 1
_LEFT = 2  # the last runs in live hands, as a worker does

Answer = dict[str, Any]


def sweep(runs: int, first: int = 0) -> list[RunConfig]:
    """So many different runs."""
    base = RunConfig(base_dataset_path="synthetic", model_type="cifar10net", num_epochs=2)
    return [replace(base, seed=number) for number in range(first, first + runs)]


class Log:
    """Events of all machines in their order, one JSON object a line, on a file system apart."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, event: str, **details: object) -> None:
        line = json.dumps({"event": event, "machine": socket.gethostname(), **details})
        os.write(self._file, f"{line}\n".encode())


def _note_lost_replies(noted: Log) -> None:
    """Tell each time that a system call has succeeded which said that it had not."""
    is_at = files._is_at

    def noting(file: IO[bytes], path: Path) -> bool:
        ours = is_at(file, path)
        if ours:
            noted("lost reply", path=path.name)
        return ours

    files._is_at = noting


# --- claims


class Barrier:
    """Machines wait for each other, by files: their clocks differ."""

    def __init__(self, folder: Path, me: int, machines: int) -> None:
        self.folder, self.me, self.machines = folder, me, machines
        self.passed = 0

    def wait(self) -> None:
        """Return when every machine is here."""
        self.passed += 1
        (self.folder / f"{self.passed}-{self.me}").touch()
        others = [self.folder / f"{self.passed}-{number}" for number in range(self.machines)]
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while not all(other.exists() for other in others):
            if time.monotonic() > give_up:
                raise TimeoutError(f"waited too long at barrier {self.passed}")
            time.sleep(_BARRIER_POLL_SECONDS)


def race(folder: str, barrier: str, me: int, machines: int, rounds: int, log: str) -> Answer:
    """Claim the next attempts at some runs at the same time as other machines, again and again.

    How many were won, how many were lost at link(2), and the hosts in the files of the attempts.
    """
    noted, gate = Log(Path(log)), Barrier(Path(barrier), me, machines)
    places = [Path(folder) / str(number) for number in range(TOGETHER)]
    for place in places:
        (place / paths.ATTEMPTS).mkdir(parents=True, exist_ok=True)
    _note_lost_replies(noted)
    counts = _counting_claims()
    chosen = random.Random(me)
    for _ in range(rounds):
        gate.wait()
        time.sleep(chosen.uniform(0, _JITTER_SECONDS))
        won = [(place, lease) for place in places if (lease := leases.acquire(place))]
        for place, lease in won:
            claim = f"{place.name}/{lease.number}"
            noted("claim", claim=claim, host=lease.record["host"])
        gate.wait()
        for _, lease in won:
            lease.end("stopped")
    gate.wait()
    return {**counts, "owners": {name: host for place in places for name, host in _owners(place)}}


def _counting_claims() -> Counter[str]:
    """How many claims of this process are won, and how many lost at link(2), from now on."""
    counts = Counter(won=0, lost=0)
    write_once = files.write_once

    def counted(path: Path, data: bytes) -> bool:
        made = write_once(path, data)
        counts["won" if made else "lost"] += 1
        return made

    files.write_once = counted
    return counts


def _owners(place: Path) -> Iterator[tuple[str, str]]:
    for number in leases.attempt_numbers(place):
        record = files.read_json(place / paths.ATTEMPTS / f"{number}.json") or {}
        yield f"{place.name}/{number}", record["host"]


# --- the stand-in for training


def content(config: RunConfig, what: str, size: int) -> bytes:
    """The bytes of a file of a run: pseudo-random ones, and their digest."""
    data = hashlib.shake_256(f"{config.id} {what}".encode()).digest(size)
    return data + hashlib.sha256(data).digest()


def row(config: RunConfig, epoch: int, attempt: int) -> dict[str, Any]:
    """A row of a history."""
    digest = hashlib.sha256(f"{config.id} {epoch}".encode()).hexdigest()
    return {"epoch": epoch, "digest": digest, "attempt": attempt, "seconds": 0.25}


def is_row(config: RunConfig, found: dict[str, Any]) -> bool:
    """Whether a row has the content that it must have."""
    return found == row(config, found.get("epoch", 0), found.get("attempt", 0))


def is_whole(data: bytes) -> bool:
    """Whether a file ends with the digest of what is before."""
    return hashlib.sha256(data[:-_DIGEST_BYTES]).digest() == data[-_DIGEST_BYTES:]


def work(runs_dir: str, first: int, runs: int, epochs: int, seconds: float, log: str) -> Answer:
    """Be a worker of a sweep until every run is done: one process after the other, if they end."""
    noted, configs, lives = Log(Path(log)), sweep(runs, first), 0
    _note_lost_replies(noted)
    while True:
        lives += 1
        child = os.fork()
        if child == 0:
            _live(lambda: _work(configs, Path(runs_dir), epochs, seconds, noted), noted)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        noted("end of a worker", status=status)
        if status == _ENDED:
            return {"lives": lives}
        time.sleep(HEARTBEAT_SECONDS)


def _live(work: Callable[[], object], noted: Log) -> None:
    """All of a worker's life."""
    status = _FAILED
    try:
        work()
        status = _ENDED
    except SystemExit as end:
        status = int(end.code or 0)
    except OSError as error:
        noted("error", errno=errno.errorcode.get(error.errno or 0, "none"), text=str(error))
    except BaseException:  # noqa: BLE001  a fault of ours, which nfs.py looks for
        noted("crash", text=traceback.format_exc())
    finally:
        os._exit(status)


def _work(
    configs: Sequence[RunConfig], runs_dir: Path, epochs: int, seconds: float, noted: Log
) -> None:
    """As `_train` of src/run.py."""
    queue = RunQueue(configs, runs_dir)
    queue.register()
    try:
        while True:
            leased = queue.take()
            if leased:
                _train_or_fail(leased, epochs, seconds, noted)
                queue.release(leased)
            elif not queue.wait_for_others(lambda: False):
                if all(folder.result() for folder in queue.folders):
                    return
                sys.exit(_LEFT)
    finally:
        queue.release_all()


def _train_or_fail(leased: LeasedRun, epochs: int, seconds: float, noted: Log) -> None:
    """As the training group and `publish_or_fail`."""
    lease, folder = leased.lease, leased.run.folder
    about: dict[str, Any] = {"run": leased.run.config.id, "attempt": lease.number}
    noted("lease", **about)
    try:
        _train(leased, epochs, seconds, noted)
    except Exception as raised:
        error = lease.cause_of(raised)
        if isinstance(error, LeaseLost):
            noted("lease lost", **about)
            lease.end("superseded")
            return
        noted("interrupted", **about, text=repr(error))
        if affects_every_run(error):
            raise
        folder.write_failure({"cause": classify(error), "message": str(error), "retry": True})
        lease.end("failed")
        raise


def _train(leased: LeasedRun, epochs: int, seconds: float, noted: Log) -> None:
    config, folder, lease = leased.run.config, leased.run.folder, leased.lease
    history = HistoryFile(folder, lease)
    rows = _resumed(config, folder)
    if rows:
        noted("resumed", run=config.id, attempt=lease.number, epochs=len(rows))
    for epoch in range(len(rows) + 1, epochs + 1):
        time.sleep(seconds)
        rows.append(row(config, epoch, lease.number))
        history.epoch(rows)
        history.before_save()
        saved = json.dumps(rows).encode() + b"\n" + content(config, f"{epoch}", _CHECKPOINT_BYTES)
        files.write(
            folder.path / paths.RESUME,
            lambda file, saved=saved: file.write(saved),  # type: ignore[misc]
            keep_before=folder.path / paths.RESUME_BEFORE,
        )
    _publish(config, folder, lease, epochs)
    noted("published", run=config.id, attempt=lease.number)
    for name in (paths.RESUME, paths.RESUME_BEFORE):
        (folder.path / name).unlink(missing_ok=True)
    lease.end("done")


def _resumed(config: RunConfig, folder: RunFolder) -> list[dict[str, Any]]:
    """The rows in the newest checkpoint that is whole."""
    for name in (paths.RESUME, paths.RESUME_BEFORE):
        try:
            head, _, data = files.read_bytes(folder.path / name).partition(b"\n")
        except FileNotFoundError:
            continue
        if is_whole(data):
            rows: list[dict[str, Any]] = json.loads(head)
            return rows
    return []


def result_of(config: RunConfig, epochs: int) -> dict[str, Any]:
    """The content of result.json, but for the attempt."""
    digest = hashlib.sha256(f"{config.id} result".encode()).hexdigest()
    accuracy = int(digest[:8], 16) / 2**32
    names = ("best_val_accuracy", "test_accuracy_best_val_acc")
    numbers = dict.fromkeys(names, accuracy) | {"epochs_run": epochs, "digest": digest}
    return {"run_id": config.id, **numbers, "stop_reason": "completed"}


def _publish(config: RunConfig, folder: RunFolder, lease: leases.Lease, epochs: int) -> None:
    """As `publish` of src/runs/publish.py does it, up to result.json."""
    lease.ensure_held()
    weights = content(config, "weights", 2 * _CHECKPOINT_BYTES)
    lease.ensure_held()
    files.write(folder.path / paths.weights("best_val_acc"), lambda file: file.write(weights))
    lease.ensure_held()
    folder.write_predictions(labels=np.arange(1000, dtype=np.uint8))
    lease.ensure_held()
    if not folder.write_result({**result_of(config, epochs), "attempt": lease.number}):
        raise LeaseLost(f"{folder.path.name} was finished by another process")


# --- readers


def watch(runs_dir: str, first: int, runs: int, stop: str, csv: str, log: str) -> Answer:
    """Read what workers write, until there is a file `stop`: everything must be whole."""
    noted, configs, counts = Log(Path(log)), sweep(runs, first), Counter[str]()
    rows = 0
    while not Path(stop).exists():
        for config in configs:
            with _noting_errors(noted, counts):
                for problem in _read_run(config, RunFolder.of(config, Path(runs_dir)), counts):
                    noted("half", text=problem)
        with _noting_errors(noted, counts):
            rows = _read_table(Path(runs_dir), Path(csv), rows, counts, noted)
    return dict(counts)


@contextmanager
def _noting_errors(noted: Log, counts: Counter[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "none")
        counts["errors"] += 1
        noted("read error", errno=name, text="".join(traceback.format_exception(error)[-3:]))


def _read_run(config: RunConfig, folder: RunFolder, counts: Counter[str]) -> Iterator[str]:
    """What is not whole among the files of a run."""
    for name in (paths.RESUME, paths.weights("best_val_acc")):
        data = _bytes(folder.path / name, counts)
        if data is not None and not is_whole(
            data.partition(b"\n")[2] if "resume" in name else data
        ):
            yield f"{folder.path}/{name}: {len(data)} bytes"
    text = _bytes(folder.path / paths.HISTORY, counts)
    if text is not None:
        yield from _history_problems(config, folder, text.decode())
    attempts = folder.path / paths.ATTEMPTS
    names = [name for name in _names(attempts) if name.endswith(".json")]
    for name in [*(f"{paths.ATTEMPTS}/{name}" for name in names), paths.RESULT, paths.CONFIG]:
        data = _bytes(folder.path / name, counts)
        if data is not None and not isinstance(_parsed(data), dict):
            yield f"{folder.path}/{name}: {data!r}"
    folder.state()


def _history_problems(config: RunConfig, folder: RunFolder, text: str) -> Iterator[str]:
    rows = [_parsed(line.encode()) for line in text.splitlines()]
    whole = all(isinstance(found, dict) and is_row(config, found) for found in rows)
    if (
        not text.endswith("\n")
        or not whole
        or [r["epoch"] for r in rows if r] != list(range(1, len(rows) + 1))
    ):
        yield f"{folder.path}/{paths.HISTORY}: {text!r}"


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _bytes(path: Path, counts: Counter[str]) -> bytes | None:
    try:
        data = files.read_bytes(path)
    except FileNotFoundError:
        return None
    counts["reads"] += 1
    return data


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _read_table(runs_dir: Path, csv: Path, before: int, counts: Counter[str], noted: Log) -> int:
    """Aggregate, read the table of another machine, and the status; the rows of our own table."""
    from src.runs import aggregate
    from src.sweep.status import overview, run_states

    if not runs_dir.is_dir():
        return 0
    table = aggregate.collect(runs_dir)
    if table.unreadable:
        noted("half", text=f"unreadable: {table.unreadable}")
    if len(table.table) < before:
        noted("half", text=f"a table of {len(table.table)} rows after one of {before}")
    aggregate.write_csv(table.table, csv)
    text = files.read_bytes(csv).decode()
    if not text.endswith("\n") or not text.startswith(aggregate.PUBLISHED_COLUMNS[0]):
        noted("half", text=f"{csv}: {text!r}")
    found = run_states.of_folders(runs_dir)
    overview.overview(found, None)
    counts["tables"] += 1
    return len(table.table)


# --- what must have come of it


def verify(runs_dir: str, first: int, runs: int, epochs: int) -> Answer:
    """Look at every file of a sweep that has ended: results by run, and what is wrong."""
    from src.runs import aggregate

    problems: list[str] = []
    results: dict[str, Any] = {}
    for config in sweep(runs, first):
        folder = RunFolder.of(config, Path(runs_dir))
        folder.remove_leftovers()
        every = (folder.path, folder.path / paths.ATTEMPTS, folder.path / paths.CELLS)
        remove_abandoned_files(*every, old_seconds=0.0)
        problems += _problems(config, folder, epochs)
        result = folder.result() or {}
        results[config.id] = result.get("attempt")
    table = aggregate.collect(Path(runs_dir)).table
    if len(table) != runs:
        problems.append(f"a table of {len(table)} rows of {runs} runs")
    return {"results": results, "problems": problems}


def _problems(config: RunConfig, folder: RunFolder, epochs: int) -> Iterator[str]:
    """What is wrong with a run that must be done."""
    counts = Counter[str]()
    yield from _read_run(config, folder, counts)
    result = folder.result() or {}
    attempt = result.pop("attempt", None)
    if result != result_of(config, epochs):
        yield f"{folder.path}/{paths.RESULT}: {result}"
    rows = (folder.path / paths.HISTORY).read_bytes().count(b"\n")
    if rows != epochs:
        yield f"{folder.path}/{paths.HISTORY}: {rows} rows of {epochs}"
    records = [files.read_json(path) or {} for path in (folder.path / paths.ATTEMPTS).iterdir()]
    done = [record["attempt"] for record in records if record.get("ended") == "done"]
    if done not in ([], [attempt]):
        yield f"{folder.path}: done by attempts {done}, and the result is of {attempt}"
    wanted = {paths.CONFIG, paths.CELLS, paths.ATTEMPTS, paths.HISTORY, paths.RESULT}
    wanted |= {paths.weights("best_val_acc"), paths.PREDICTIONS}
    there = set(os.listdir(folder.path))
    if there != wanted:
        yield f"{folder.path}: without {wanted - there}, with {there - wanted}"
    with np.load(folder.path / paths.PREDICTIONS) as stored:
        if stored["labels"].size != 1000:
            yield f"{folder.path}/{paths.PREDICTIONS}"


# --- what nfs.py asks for

ROLES: dict[str, Callable[..., Answer]] = {
    "race": race,
    "work": work,
    "watch": watch,
    "verify": verify,
}


def serve(folder: Path) -> None:
    """Do what is asked for in `folder`, each in a process of its own, which is forked from this."""
    leases.HEARTBEAT_SECONDS = HEARTBEAT_SECONDS
    run_queue._ABANDONED_SECONDS = _ABANDONED_SECONDS
    (folder / "serving").touch()
    while True:
        for asked in sorted(folder.glob("*.ask")):
            request = json.loads(asked.read_text())
            asked.unlink()
            if os.fork() == 0:
                _answer(request, asked.with_suffix(".answer"))
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        time.sleep(_POLL_SECONDS)


def _answer(request: dict[str, Any], path: Path) -> None:
    """Do one thing and write what came of it."""
    answer: Answer
    try:
        answer = ROLES[request.pop("role")](**request)
    except BaseException:  # noqa: BLE001  told to who has asked
        answer = {"error": traceback.format_exc()}
    path.with_suffix(".new").write_text(json.dumps(answer))
    path.with_suffix(".new").rename(path)
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[2:] == ["reads"]:
        import src.runs.aggregate
        import src.sweep.status.overview  # noqa: F401
    serve(Path(sys.argv[1]))
