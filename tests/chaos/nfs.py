"""A real NFS that is disturbed while machines claim runs, work on sweeps and read all of it."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import Any

from src.common.paths import ROOT
from src.runs import leases
from tests.chaos import nfs_guest
from tests.chaos.disturbances import Figures
from tests.chaos.harness import GuaranteeViolated

SCRIPTS = ROOT / "slurm_cluster" / "rehearsal" / "nfs"
VERSIONS = ("3", "4.2")

# shorter than the defaults by the same factor as heartbeats; caches stay as they are
_OPTIONS = f"timeo={600 // nfs_guest.FASTER},retrans=2"
_TAKEN_OVER_SECONDS = leases.MISSED_HEARTBEATS * nfs_guest.HEARTBEAT_SECONDS
_PATIENCE_SECONDS = 420.0
_ROUND_SECONDS = 15.0  # of races, which take half of it
_UP_SECONDS = 300.0
_NET = "net"
_READERS = 2  # of the nodes


class Asked:
    """What a node was asked to do."""

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what

    def is_over(self) -> bool:
        """Whether it has answered."""
        return self._path.exists()

    def answer(self, seconds: float = _PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait for what came of it. Raises GuaranteeViolated if it failed, or takes longer."""
        _until(self.is_over, f"{self._what} has ended", seconds)
        answer: dict[str, Any] = json.loads(self._path.read_text())
        if "error" in answer:
            raise GuaranteeViolated(f"{self._what}: {answer['error']}")
        return answer


class Machines:
    """The virtual machines of the rehearsal, in a folder; each node serves our requests."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder, self.nodes = folder, [f"node{number}" for number in range(1, nodes + 1)]
        self._numbers = count()
        up = [str(SCRIPTS / "up.sh"), str(folder), str(nodes)]
        environment = {**os.environ, "OPTIONS": _OPTIONS}
        done = subprocess.run(
            up, env=environment, capture_output=True, text=True, timeout=_UP_SECONDS
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        for node in self.nodes:
            self._serve(node, node)
        for node in self.nodes[-_READERS:]:
            self._serve(node, f"{node}-reads", "reads")

    def _serve(self, node: str, name: str, *words: str) -> None:
        """Start the process in a node that does what it is asked for."""
        (self.folder / "share" / f"{name}.asks").mkdir()
        place = f"/share/{name}.asks"
        command = f"'{sys.executable}' -m tests.chaos.nfs_guest {place} {' '.join(words)}"
        self.on(node, f"cd '{ROOT}' && {command} >{place}/said 2>&1 &")

    def on(self, machine: str, command: str) -> str:
        """Run a command in a machine; what it prints. Raises GuaranteeViolated if it fails."""
        words = [str(SCRIPTS / "on.sh"), str(self.folder), machine, command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=_UP_SECONDS)
        if done.returncode:
            raise GuaranteeViolated(f"{machine}: {command}: {done.stderr}")
        return done.stdout

    def on_all(self, machines: Sequence[str], command: str) -> None:
        """Run a command in several machines at once."""
        with ThreadPoolExecutor(len(machines)) as pool:
            list(pool.map(lambda machine: self.on(machine, command), machines))

    def monitor(self, machine: str, *words: str) -> None:
        """Send a command to QEMU."""
        command = [str(SCRIPTS / "monitor.sh"), str(self.folder), machine, *words]
        subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)

    def mount(self, version: str) -> None:
        """Mount the export in all nodes, as this version of NFS."""
        self.on_all(self.nodes, f"node.sh unmount && node.sh mount {version}")
        self.on(self.nodes[0], f"grep -q ' /nfs nfs.*vers={version}' /proc/mounts")

    def ask(self, node: str, role: str, **words: object) -> Asked:
        """Let a node do something that tests/chaos/nfs_guest.py can do."""
        name = f"{node}-reads" if role in ("watch", "verify") else node
        path = self.folder / "share" / f"{name}.asks" / str(next(self._numbers))
        path.with_suffix(".new").write_text(json.dumps({"role": role, **words}))
        path.with_suffix(".new").rename(path.with_suffix(".ask"))
        return Asked(path.with_suffix(".answer"), f"{role} of {node}")

    def shared(self, name: str) -> Path:
        """A new folder that all machines see, which is not on NFS; they see it in /share."""
        path = self.folder / "share" / f"{name}-{next(self._numbers)}"
        path.mkdir()
        return path


# --- what may befall it


@dataclass
class Scene:
    """What is disturbed: machines, which write what they do into logs in a folder."""

    machines: Machines
    chosen: random.Random
    logs: Path

    @property
    def log(self) -> Path:
        """What the machines write, which see it as `inside`."""
        return self.logs / "events.log"

    @property
    def inside(self) -> str:
        """The folder of the log, as the machines see it."""
        return f"/share/{self.logs.name}"

    def events(self) -> list[dict[str, Any]]:
        """What the machines have written until now."""
        text = self.log.read_text() if self.log.exists() else ""
        whole, _, _ = text.rpartition("\n")  # the last line may be in the middle of being written
        return [json.loads(line) for line in whole.splitlines()]

    def training(self) -> list[str]:
        """The nodes that have a run in training."""
        held: dict[str, object] = {}
        for event in self.events():
            if event["event"] == "lease":
                held[event["machine"]] = event["run"]
            elif event["event"] in ("published", "lease lost", "interrupted"):
                held.pop(event["machine"], None)
        return sorted(held)

    def count(self, event: str) -> int:
        """How often something has happened until now."""
        return sum(found["event"] == event for found in self.events())


Disturb = Callable[[Scene], None]


def restart(scene: Scene) -> None:
    """nfsd is restarted."""
    scene.machines.on("server", "server.sh restart")


def restart_and_lose_replies(scene: Scene) -> None:
    """nfsd is restarted, and what it answered to its last requests has reached nobody."""
    lost, found = (f"tc qdisc {what} dev eth0 root netem loss 100%" for what in ("add", "del"))
    pause = f"sleep {scene.chosen.uniform(0.1, 0.5):.2f}"
    scene.machines.on("server", f"{lost}; {pause}; server.sh restart; {found}")


def cut_power(scene: Scene) -> None:
    """The server is switched off and on again."""
    ready = scene.machines.folder / "share" / "server" / "ready"
    ready.unlink()
    scene.machines.monitor("server", "system_reset")
    _until(ready.exists, "the server is up again", _UP_SECONDS)


def cut_off(scene: Scene) -> None:
    """A node is cut off the network until its run has been taken over, and comes back."""
    node = scene.chosen.choice(scene.training() or scene.machines.nodes)
    scene.machines.monitor(node, "set_link", _NET, "off")
    leases_before = scene.count("lease")
    give_up = time.monotonic() + 4 * _TAKEN_OVER_SECONDS
    while scene.count("lease") == leases_before and time.monotonic() < give_up:
        time.sleep(0.5)
    scene.machines.monitor(node, "set_link", _NET, "on")


def cut_off_shortly(scene: Scene) -> None:
    """A node is cut off the network, but not long enough for that."""
    node = scene.chosen.choice(scene.machines.nodes)
    scene.machines.monitor(node, "set_link", _NET, "off")
    time.sleep(scene.chosen.uniform(0.5, 2))
    scene.machines.monitor(node, "set_link", _NET, "on")


def lose_packets(scene: Scene) -> None:
    """A tenth of the packets is lost, in both directions."""
    everywhere = ["server", *scene.machines.nodes]
    scene.machines.on_all(everywhere, "tc qdisc add dev eth0 root netem loss 10%")
    time.sleep(scene.chosen.uniform(2, 5))
    scene.machines.on_all(everywhere, "tc qdisc del dev eth0 root")


def fill(scene: Scene) -> None:
    """The export is full for a while."""
    scene.machines.on("server", "server.sh fill")
    time.sleep(scene.chosen.uniform(2, 4))
    scene.machines.on("server", "server.sh free")


def withdraw(scene: Scene) -> None:
    """The export is gone for a while: clients are told ESTALE or EACCES."""
    scene.machines.on("server", "server.sh withdraw")
    time.sleep(scene.chosen.uniform(1, 3))
    scene.machines.on("server", "server.sh export")


def renew(scene: Scene) -> None:
    """The files are on another file system: handles from before stay stale."""
    scene.machines.on("server", "server.sh renew")


NAMES: dict[Disturb, str] = {
    restart: "server restarts",
    restart_and_lose_replies: "server restarts",
    cut_power: "power cuts of the server",
    cut_off: "machines cut off",
    cut_off_shortly: "machines cut off",
    lose_packets: "times of lost packets",
    fill: "full exports",
    withdraw: "stale exports",
    renew: "stale exports",
}
"""What the figures call them."""


# --- what the machines do meanwhile


@dataclass
class Part:
    """One part of the figures: what was done and what came of it."""

    machines: Machines
    version: str
    chosen: random.Random
    figures: Counter[str] = field(default_factory=Counter)

    def disturb(self, how: Disturb, scene: Scene) -> None:
        """Disturb once."""
        began = time.monotonic()
        how(scene)
        self.figures[NAMES[how]] += 1
        _say(f"NFS {self.version}: {how.__name__}: {time.monotonic() - began:.1f} s")

    def races(self, machines: int, rounds: int, ways: Iterable[Disturb], pause: float) -> None:
        """Machines claim the same attempts at the same times: each has one owner."""
        scene = Scene(self.machines, self.chosen, self.machines.shared("races"))
        (scene.logs / "barrier").mkdir()
        words = {
            "folder": f"/nfs/{scene.logs.name}",
            "barrier": f"{scene.inside}/barrier",
            "machines": machines,
            "rounds": rounds,
            "log": f"{scene.inside}/{scene.log.name}",
        }
        nodes = self.machines.nodes[:machines]
        asked = [self.machines.ask(node, "race", me=me, **words) for me, node in enumerate(nodes)]
        patience = _PATIENCE_SECONDS + rounds * _ROUND_SECONDS
        self._disturb_until(asked, ways, pause, scene, patience)
        answers = [one.answer() for one in asked]
        claims = [event for event in scene.events() if event["event"] == "claim"]
        _require_one_owner(claims, rounds, [answer["owners"] for answer in answers])
        self._note(scene)
        self.figures["races"] += len(claims)
        self.figures["claims lost at link(2)"] += sum(answer["lost"] for answer in answers)
        self.figures["double owners"] += 0
        _say(f"NFS {self.version}: won {sorted(answer['won'] for answer in answers)}")

    def sweep(self, runs: int, epochs: int, ways: Sequence[Disturb], pause: float) -> None:
        """Machines work on a sweep, and the last of them read it too: every run is done, once."""
        scene = Scene(self.machines, self.chosen, self.machines.shared("sweep"))
        place, log = f"/nfs/{scene.logs.name}", f"{scene.inside}/{scene.log.name}"
        which = {"runs_dir": f"{place}/runs", "first": 0, "runs": runs}
        ask, nodes = self.machines.ask, self.machines.nodes
        workers = [
            ask(node, "work", **which, epochs=epochs, seconds=0.2, log=log) for node in nodes
        ]
        words = {**which, "stop": f"{scene.inside}/stop", "csv": f"{place}/runs.csv", "log": log}
        watchers = [ask(node, "watch", **words) for node in nodes[-_READERS:]]
        _until(lambda: self._all_train(scene, workers), "workers train")
        self._disturb_until(workers, ways, pause, scene)
        for worker in workers:
            worker.answer()
        (scene.logs / "stop").touch()
        for watcher in watchers:
            counted = watcher.answer()
            self.figures["files read"] += counted["reads"]
            self.figures["tables read"] += counted.get("tables", 0)
        verified = ask(nodes[-1], "verify", **which, epochs=epochs).answer()
        self._require_whole(scene.events(), verified, ways)
        self._note(scene)
        self.figures["runs"] += runs

    def _require_whole(
        self, events: Sequence[dict[str, Any]], verified: dict[str, Any], ways: Sequence[Disturb]
    ) -> None:
        """Raise unless every run is done once, had one owner at a time, and its files are whole."""
        of = {name: [event for event in events if event["event"] == name] for name in _KINDS}
        if verified["problems"]:
            raise GuaranteeViolated("; ".join(verified["problems"]))
        if of["half"] or of["crash"]:
            raise GuaranteeViolated(
                "; ".join(event["text"] for event in (*of["half"], *of["crash"])[:3])
            )
        expected = {number for way in ways for number in _ERRORS.get(way, ())}
        errors = [e for e in (*of["error"], *of["read error"]) if e["errno"] not in expected]
        if errors:
            raise GuaranteeViolated(
                f"{len(errors)} errors, as {errors[0]['errno']}: {errors[0]['text']}"
            )
        leased = Counter((event["run"], event["attempt"]) for event in of["lease"])
        double = [attempt for attempt, owners in leased.items() if owners > 1]
        if double:
            raise GuaranteeViolated(f"attempts with two owners: {double}")
        _require_trained_once(events)
        published = Counter(event["run"] for event in of["published"])
        wrong = [event for event in of["published"] if published[event["run"]] > 1]
        wrong += [e for e in of["published"] if verified["results"][e["run"]] != e["attempt"]]
        if wrong:
            raise GuaranteeViolated(f"published twice: {wrong}")
        for name in ("double owners", "runs lost or published twice", "files half-read"):
            self.figures[name] += 0
        self.figures["taken over"] += sum(event["attempt"] > 1 for event in of["lease"])

    def _all_train(self, scene: Scene, workers: Sequence[Asked]) -> bool:
        """Whether each worker has leased a run, or there is nothing left for it."""
        training = {event["machine"] for event in scene.events() if event["event"] == "lease"}
        return all(
            worker.is_over() or node in training
            for worker, node in zip(workers, self.machines.nodes, strict=True)
        )

    def _disturb_until(
        self,
        asked: Sequence[Asked],
        ways: Iterable[Disturb],
        pause: float,
        scene: Scene,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        """Disturb in these ways, one after the other, until all have answered.

        Raises GuaranteeViolated if that takes longer than `patience` seconds.
        """
        give_up = time.monotonic() + patience
        each = iter(ways)
        while True:
            then = time.monotonic() + self.chosen.uniform(0.5, 1.5) * pause
            while time.monotonic() < then:
                if all(one.is_over() for one in asked):
                    return
                time.sleep(0.1)
            if time.monotonic() > give_up:
                raise GuaranteeViolated("machines are not ready in time")
            if way := next(each, None):
                self.disturb(way, scene)

    def _note(self, scene: Scene) -> None:
        events = Counter(event["event"] for event in scene.events())
        self.figures["lost replies"] += events["lost reply"]
        _say(f"NFS {self.version}: {scene.logs.name}: {dict(events)}")


_KINDS = (
    *("half", "crash", "error", "read error", "lease", "published"),
    *("lease lost", "interrupted", "resumed", "lost reply", "end of a worker"),
)
_ERRORS: dict[Disturb, Sequence[str]] = {
    fill: ("ENOSPC",),
    withdraw: ("ESTALE", "EACCES"),
    renew: ("ESTALE",),
}
"""What machines may be told while they are disturbed so; they start again then."""


def _require_one_owner(
    claims: Sequence[dict[str, Any]], rounds: int, in_files: Sequence[dict[str, str]]
) -> None:
    """Raise unless each attempt was claimed by one machine, which its file names."""
    owners = Counter(event["claim"] for event in claims)
    places = range(nfs_guest.TOGETHER)
    every = Counter(f"{place}/{number}" for place in places for number in range(1, rounds + 1))
    if owners != every:
        raise GuaranteeViolated(f"with no owner {every - owners}, with too many {owners - every}")
    hosts = {event["claim"]: event["host"] for event in claims}
    if any(found != hosts for found in in_files):
        raise GuaranteeViolated(f"owners {hosts}, and in the files {in_files}")


def _require_trained_once(events: Sequence[dict[str, Any]]) -> None:
    """Raise GuaranteeViolated if a run is leased, to be trained, after it was published."""
    published: set[str] = set()
    for event in events:
        if event["event"] == "published":
            published.add(event["run"])
        elif event["event"] == "lease" and event["run"] in published:
            raise GuaranteeViolated(f"trained again: {event}")


def short(machines: Machines, version: str) -> Figures:
    """Most of it once, between two machines."""
    part = Part(machines, version, random.Random(version))
    machines.mount(version)
    part.races(2, 3, [restart_and_lose_replies], pause=2)
    if version == VERSIONS[0]:
        part.sweep(2, 10, [cut_off], pause=1)
    else:
        part.sweep(3, 4, [fill, withdraw, renew], pause=2)
    return dict(part.figures)


def long(machines: Machines, version: str) -> Figures:
    """A part of the figures, which takes some minutes."""
    seed = time.time_ns()
    _say(f"NFS {version}: seed {seed}")
    part = Part(machines, version, random.Random(seed))
    machines.mount(version)
    part.races(2, 60, cycle([restart_and_lose_replies, restart, lose_packets, restart]), pause=3)
    part.races(4, 15, cycle([restart_and_lose_replies, cut_off_shortly]), pause=4)
    part.sweep(4, 10, [cut_off], pause=2)
    kinds = [restart_and_lose_replies, lose_packets, restart, cut_off_shortly]
    part.sweep(8, 6, kinds * 2, pause=3)
    part.sweep(8, 6, [fill, withdraw, renew, cut_power], pause=3)
    return dict(part.figures)


class Rehearsal:
    """Machines that are switched on when they are needed first, and off at the end."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self.keep = False
        """Whether to leave what the machines wrote, for a look into it."""
        self._up: Machines | None = None
        self._folder: Path | None = None

    def machines(self) -> Machines:
        """The machines, which are up."""
        if self._up is None:
            memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
            self._folder = Path(tempfile.mkdtemp(prefix="nfs-", dir=memory))
            self._up = Machines(self._folder, self.nodes)
        return self._up

    def __enter__(self) -> "Rehearsal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder:
            subprocess.run([SCRIPTS / "down.sh", self._folder], check=True, timeout=60)
            if not self.keep:
                shutil.rmtree(self._folder)


def _until(condition: Callable[[], object], what: str, seconds: float = _PATIENCE_SECONDS) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise GuaranteeViolated(f"waited too long until {what}")
        time.sleep(0.05)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
