"""Disturb sweeps, and write down how often and what came of it: python -m tests.chaos"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, machine
from src.cli.arguments import Parser
from src.cli.entry_point import run_main
from src.common import files
from src.common.errors import ExitStatus, UserError
from src.common.paths import ROOT, shown
from tests.chaos import cluster, monkeys, nfs, variants, world
from tests.chaos.monkeys import Figures
from tests.chaos.world import Broken

DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
FILE = "chaos.json"


_MEMORY = "/dev/shm"
_ON_A_CLUSTER = (
    *("preemptions", "preemptions with grace", "requeues", "slurmd kills", "slurmctld kills"),
    "in turn",
)
_ON_NFS = tuple(f"nfs {version}" for version in nfs.VERSIONS)
_GROUPS = {"nfs": _ON_NFS, **{name.replace(" ", "-"): (name,) for name in _ON_NFS}}
"""Names for several scenarios at once, and names without a space for make."""

_WAYS = (cluster.preempt, cluster.kill_slurmd, cluster.kill_slurmctld)


def scenarios(
    short: bool, rehearsal: nfs.Rehearsal | None = None
) -> dict[str, Callable[[Path], Figures]]:
    """What can be done, by name; in `short` less of it. rehearsal: of NFS."""

    def times(few: int, many: int) -> int:
        return few if short else many

    def clustered(grace: int, disturb: cluster.Disturb, number: int) -> Callable[[Path], Figures]:
        def run(folder: Path) -> Figures:
            with cluster.cluster(folder / "slurm", grace) as place:
                return cluster.disturbed(folder, place, disturb=disturb, times=number)

        return run

    def on_nfs(version: str) -> Callable[[Path], Figures]:
        def run(folder: Path) -> Figures:
            assert rehearsal
            return (nfs.short if short else nfs.long)(rehearsal.machines(), version)

        return run

    some = times(50, 200)
    return {
        "kills": lambda at: monkeys.kills(at, runs=25, kills=times(50, 500)),
        "failpoints": monkeys.every_failpoint,
        "damage": lambda at: monkeys.damage(at, cuts=some, flips=some, resumed=times(4, 20)),
        "claims": lambda at: monkeys.claims(at, rounds=times(100, 1000)),
        "signals": lambda at: monkeys.signals(at, bursts=times(8, 50)),
        "small disk": lambda at: monkeys.small_disk(at, sizes=times(8, 40)),
        "broken variants": _variants,
        "preemptions": clustered(0, cluster.preempt, times(2, 25)),
        "preemptions with grace": clustered(20, cluster.preempt, times(2, 25)),
        "requeues": clustered(0, cluster.requeue, times(1, 10)),
        "slurmd kills": clustered(0, cluster.kill_slurmd, times(1, 10)),
        "slurmctld kills": clustered(0, cluster.kill_slurmctld, times(1, 3)),
        "in turn": clustered(0, cluster.in_turn(*_WAYS), times(3, 6)),
        **{f"nfs {version}": on_nfs(version) for version in nfs.VERSIONS},
    }


def main(arguments: Sequence[str]) -> ExitStatus:
    """Do what was asked for; the status tells whether all promises were kept."""
    parser = Parser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="other figures stay [all]")
    parser.add_argument("--short", action="store_true", help="in minutes; nothing is written down")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument(
        "--anew", action="store_true", help="figures of nfs are not added to those before"
    )
    parsed = parser.parse(arguments)
    told: dict[str, Figures] = {}
    broken = False
    with nfs.Rehearsal(2 if parsed.short else 4) as rehearsal:
        known = scenarios(parsed.short, rehearsal)
        names = _names(parsed.only, known)
        with nullcontext() if set(names) <= set(_ON_NFS) else world.prepared():
            for name in names:
                try:
                    told[name] = _figures(name, known[name])
                except Broken as error:
                    print(f"{name}: BROKEN: {error}", file=sys.stderr)
                    broken = rehearsal.keep = True
                    continue
                if not parsed.short:
                    _write(name, told[name], add=not parsed.anew)
    if parsed.json:
        print(json.dumps(told, indent=2))
    if not parsed.short:
        print(shown(RESULTS / FILE))
    return ExitStatus.SOME_RUNS_FAILED if broken else ExitStatus.DONE


def _names(only: Sequence[str] | None, known: Mapping[str, object]) -> list[str]:
    """The scenarios that were asked for. Raises UserError."""
    names = [name for word in only or known for name in _GROUPS.get(word, (word,))]
    for name in names:
        if name not in known:
            groups = ", ".join([*known, *_GROUPS])
            raise UserError(f"--only {name!r}: expected one of {groups}")
    return names


def _figures(name: str, scenario: Callable[[Path], Figures]) -> Figures:
    """What came of a scenario, and how long it took. Raises Broken."""
    began = time.perf_counter()
    with _folder(name) as folder:
        figures = scenario(folder)
    figures["seconds"] = round(time.perf_counter() - began)
    print(f"{name}: {_words(figures)}", file=sys.stderr, flush=True)
    return figures


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """In memory, where syncing takes no time, but for a cluster and its data base."""
    memory = name not in _ON_A_CLUSTER and os.access(_MEMORY, os.W_OK)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=_MEMORY if memory else "/tmp"))
    yield folder
    shutil.rmtree(folder)  # where something is broken it stays, to be looked into


def _variants(folder: Path) -> Figures:
    """Every broken variant is caught."""
    who = variants.catches(folder)
    missed = [v.__name__ for v, monkey in who.items() if not variants.is_caught(v, monkey)]
    if missed:
        raise Broken(f"not caught: {', '.join(missed)}")
    return {"variants": len(who), "caught": len(who)}


def _words(figures: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in figures.items())


def _write(name: str, figures: Figures, *, add: bool) -> None:
    """Into benchmarks/results/ and docs/reliability.md, beside what was done before.

    add: to those that are there, of scenarios that are done in parts.
    """
    known = (files.read_json(RESULTS / FILE) or {}).get("scenarios", {})
    if name in _ON_NFS:
        before = known[name]["figures"] if add and name in known else {}
        parts = {"parts": 1, **figures}
        figures = {what: before.get(what, 0) + parts.get(what, 0) for what in {**parts, **before}}
    both = known | {name: {"figures": figures, "machine": machine(torch.device("cpu"))}}
    all_of_them = {name: both[name] for name in scenarios(short=False) if name in both}
    files.write_json(RESULTS / FILE, {"scenarios": all_of_them})
    text, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        files.write_text(DOCUMENT, "\n".join([text + BEGIN, markdown(all_of_them), END + after]))


def markdown(measured: Mapping[str, Any]) -> str:
    """The table of the scenarios in chaos.json."""
    lines = ["| disturbance | figures | on |", "|---|---|---|"]
    lines += [
        f"| {name} | {_words(one['figures'])} | {one['machine']['date']}, "
        f"{one['machine']['cores']} cores |"
        for name, one in measured.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_main(main)
