"""Run fault injection scenarios and record their figures: python -m tests.chaos"""

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
from tests.chaos import cluster, disturbances, harness, nfs, variants
from tests.chaos.disturbances import Figures
from tests.chaos.harness import GuaranteeViolated

DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
FILE = "chaos.json"


_MEMORY = "/dev/shm"
_CLUSTER_SCENARIOS = (
    *("preemptions", "preemptions with grace", "requeues", "slurmd kills", "slurmctld kills"),
    "in turn",
)
_NFS_SCENARIOS = tuple(f"nfs {version}" for version in nfs.VERSIONS)
_GROUPS = {"nfs": _NFS_SCENARIOS, **{name.replace(" ", "-"): (name,) for name in _NFS_SCENARIOS}}
"""Names that stand for several scenarios, and names without a space for make."""
_DAEMON_DISTURBANCES = (cluster.preempt, cluster.kill_slurmd, cluster.kill_slurmctld)


def scenarios(
    short: bool, rehearsal: nfs.Rehearsal | None = None
) -> dict[str, Callable[[Path], Figures]]:
    """Return the scenarios by name, with fewer repetitions if `short`. rehearsal: of NFS."""

    def times(few: int, many: int) -> int:
        return few if short else many

    def cluster_scenario(
        grace: int, disturb: cluster.Disturb, number: int
    ) -> Callable[[Path], Figures]:
        def run(folder: Path) -> Figures:
            with cluster.cluster(folder / "slurm", grace) as cluster_folder:
                return cluster.run_disturbed_sweeps(
                    folder, cluster_folder, disturb=disturb, times=number
                )

        return run

    def nfs_scenario(version: str) -> Callable[[Path], Figures]:
        def run(folder: Path) -> Figures:
            assert rehearsal
            return (nfs.short if short else nfs.long)(rehearsal.machines(), version)

        return run

    repetitions = times(50, 200)
    return {
        "kills": lambda at: disturbances.kills(at, runs=25, kills=times(50, 500)),
        "failpoints": lambda at: disturbances.every_failpoint(at, after=not short),
        "damage": lambda at: disturbances.damage(
            at, cuts=repetitions, flips=repetitions, resumed=times(4, 20)
        ),
        "claims": lambda at: disturbances.claims(at, rounds=times(100, 1000)),
        "signals": lambda at: disturbances.signals(at, bursts=times(8, 50)),
        "small disk": lambda at: disturbances.small_disk(at, sizes=times(8, 40)),
        "broken variants": _variants,
        "preemptions": cluster_scenario(0, cluster.preempt, times(2, 25)),
        "preemptions with grace": cluster_scenario(20, cluster.preempt, times(2, 25)),
        "requeues": cluster_scenario(0, cluster.requeue, times(1, 10)),
        "slurmd kills": cluster_scenario(0, cluster.kill_slurmd, times(1, 10)),
        "slurmctld kills": cluster_scenario(0, cluster.kill_slurmctld, times(1, 3)),
        "in turn": cluster_scenario(0, cluster.in_turn(*_DAEMON_DISTURBANCES), times(3, 6)),
        **{f"nfs {version}": nfs_scenario(version) for version in nfs.VERSIONS},
    }


def main(arguments: Sequence[str]) -> ExitStatus:
    """Run the selected scenarios; the exit status tells whether all guarantees held."""
    parser = Parser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help="scenarios to run; figures of others are kept [all]",
    )
    parser.add_argument(
        "--short", action="store_true", help="a version of minutes that writes no files"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument(
        "--anew", action="store_true", help="do not add figures of nfs to those before"
    )
    parsed = parser.parse(arguments)
    results: dict[str, Figures] = {}
    violated = False
    with nfs.Rehearsal(2 if parsed.short else 4) as rehearsal:
        known = scenarios(parsed.short, rehearsal)
        names = _names(parsed.only, known)
        with nullcontext() if set(names) <= set(_NFS_SCENARIOS) else harness.prepared():
            for name in names:
                started = time.perf_counter()
                with _folder(name) as folder:
                    try:
                        results[name] = known[name](folder)
                    except GuaranteeViolated as error:
                        print(f"{name}: FAILED: {error}", file=sys.stderr)
                        violated = rehearsal.keep = True
                        continue
                results[name]["seconds"] = round(time.perf_counter() - started)
                print(f"{name}: {_describe(results[name])}", file=sys.stderr, flush=True)
                if not parsed.short:
                    _write(name, results[name], add=not parsed.anew)
    if parsed.json:
        print(json.dumps(results, indent=2))
    if not parsed.short:
        print(shown(RESULTS / FILE))
    return ExitStatus.SOME_RUNS_FAILED if violated else ExitStatus.DONE


def _names(only: Sequence[str] | None, known: Mapping[str, object]) -> list[str]:
    """Return the selected scenarios. Raises UserError for an unknown name."""
    names = [name for word in only or known for name in _GROUPS.get(word, (word,))]
    for name in names:
        if name not in known:
            expected = ", ".join([*known, *_GROUPS])
            raise UserError(f"--only {name!r}: expected one of {expected}")
    return names


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """Yield a temporary folder, in memory (fsync is fast) except for scenarios on a cluster."""
    memory = name not in _CLUSTER_SCENARIOS and os.access(_MEMORY, os.W_OK)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=_MEMORY if memory else "/tmp"))
    yield folder
    shutil.rmtree(folder)  # after an error the folder is kept for inspection


def _variants(folder: Path) -> Figures:
    """Check that every broken variant is detected."""
    detectors = variants.detectors(folder)
    missed = [
        v.__name__ for v, scenario in detectors.items() if not variants.is_detected(v, scenario)
    ]
    if missed:
        raise GuaranteeViolated(f"not detected: {', '.join(missed)}")
    return {"variants": len(detectors), "caught": len(detectors)}


def _describe(figures: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in figures.items())


def _write(name: str, figures: Figures, *, add: bool) -> None:
    """Update the figures in benchmarks/results/ and docs/reliability.md.

    add: to the figures of earlier calls, in scenarios that are run in parts.
    """
    known = (files.read_json(RESULTS / FILE) or {}).get("scenarios", {})
    if name in _NFS_SCENARIOS:
        before = known[name]["figures"] if add and name in known else {}
        part = {"parts": 1, **figures}
        figures = {what: before.get(what, 0) + part.get(what, 0) for what in {**before, **part}}
    merged = known | {name: {"figures": figures, "machine": machine(torch.device("cpu"))}}
    ordered = {name: merged[name] for name in scenarios(short=False) if name in merged}
    files.write_json(RESULTS / FILE, {"scenarios": ordered})
    before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        files.write_text(DOCUMENT, "\n".join([before + BEGIN, markdown(ordered), END + after]))


def markdown(measured: Mapping[str, Any]) -> str:
    """Return the Markdown table of the scenarios in chaos.json."""
    lines = ["| disturbance | figures | on |", "|---|---|---|"]
    lines += [
        f"| {name} | {_describe(one['figures'])} | {one['machine']['date']}, "
        f"{one['machine']['cores']} cores |"
        for name, one in measured.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_main(main)
